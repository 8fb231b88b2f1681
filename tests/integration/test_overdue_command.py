"""`ratchet overdue`, as a cron job on another machine asks it."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING

from samples.data import SAMPLES

if TYPE_CHECKING:
    from integration.conftest import World


def test_overdue_night_is_told_by_the_exit_status(world: World) -> None:
    """A pipeline is watched from its first night on; one whose newest decision is years old is named, with status 1."""
    home = str(world.home("churn"))
    spec = world.home("churn") / "pipelines" / "churn.yaml"
    spec.write_text(spec.read_text().replace("schedule: null", "schedule: 0 3 * * *"))
    status, late, _ = world.ratchet("overdue", "--home", home)
    assert (status, late) == (0, {})
    for key, data in SAMPLES["churn"](date(2024, 1, 20), date(2024, 1, 21)):
        world.store.put(key, data)
    assert world.night("churn", date(2024, 1, 21))[1]["outcome"] == "skipped"
    status, late, _ = world.ratchet("overdue", "--home", home)
    assert status == 1
    assert (
        "has come to no decision by its deadline; the newest decision is that of the night of 2024-01-21"
        in late["churn"]
    )
