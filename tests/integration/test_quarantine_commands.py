"""What is left out of a night, by the command line, on real servers and with Great Expectations."""

from __future__ import annotations

import getpass
import io
from datetime import date, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from samples.data import SAMPLES

if TYPE_CHECKING:
    from integration.conftest import World

CUTOFF = date(2024, 3, 9)
BAD = CUTOFF - timedelta(days=20)


def overpriced(data: bytes, rows: tuple[int, ...]) -> bytes:
    """Return a day's subscribers, some of whom pay what the suite does not believe."""
    table = pq.read_table(io.BytesIO(data))
    here = pa.array([i in rows for i in range(table.num_rows)])
    price = pc.if_else(here, pa.scalar(Decimal("987.65"), table["price"].type), table["price"])
    out = io.BytesIO()
    pq.write_table(table.set_column(table.column_names.index("price"), "price", price), out)
    return out.getvalue()


def test_broken_rows_are_listed_shown_and_given_back(world: World) -> None:
    """A night leaves out single rows; they can be seen without their values, and a release brings them into the next snapshot."""
    for key, data in SAMPLES["churn"](date(2024, 1, 20), CUTOFF):
        world.store.put(key, overpriced(data, (3, 17)) if str(BAD) in key else data)
    about = ("churn", "--home", str(world.home("churn")))
    _, first, error = world.night("churn", CUTOFF)
    assert first["outcome"] == "promoted", error
    _, listed, _ = world.ratchet("quarantine", "list", *about)
    (mine,) = listed["held"]
    assert (mine["partition"], mine["left_out"], mine["whole"]) == (str(BAD), 2, False)
    _, shown, _ = world.ratchet("quarantine", "show", "churn", str(BAD), *about[1:])
    assert [(row["row"], row["key"].rpartition("/")[0]) for row in shown["rows"]] == [
        (4, f"churn/day={BAD}"),
        (18, f"churn/day={BAD}"),
    ]
    assert "expect_column_values_to_be_between(price)" in shown["rows"][0]["reasons"][0]
    assert "987" not in str(shown)
    _, values, _ = world.ratchet("quarantine", "show", "churn", str(BAD), "--values", *about[1:])
    assert "987.65" in str(values["rows"][0]["values"])
    status, _, error = world.ratchet(
        "quarantine", "release", "churn", str(BAD), "--row", "5", "--reason", "no", *about[1:]
    )
    assert status == 2
    assert "no row '5'" in error
    status, made, _ = world.ratchet("quarantine", "release", "churn", str(BAD), "--reason", "a family plan", *about[1:])
    assert (status, made["actor"], made["reason"]) == (0, getpass.getuser(), "a family plan")
    _, again, _ = world.night("churn", CUTOFF, "--repin")
    assert again["snapshot"]["digest"] != first["snapshot"]["digest"]
    assert world.ratchet("quarantine", "list", *about)[1]["held"] == []
    _, changed, _ = world.ratchet(
        "snapshot",
        "diff",
        "churn",
        again["snapshot"]["digest"][:12],
        "--against",
        first["snapshot"]["digest"],
        *about[1:],
    )
    assert changed["released"] == [str(BAD)]
