"""A small world whose rows lie in segments: nights of all rows, and those of each segment."""

from __future__ import annotations

from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml
from small_world import FIRST, NIGHT, ROWS, SPEC, World

from ratchet.steps import segments

if TYPE_CHECKING:
    from ratchet.domain.night import Night
    from ratchet.domain.segments import SegmentsResult
    from ratchet.steps.context import Services

TOMORROW = NIGHT + timedelta(days=1)
PLACES = ["north", "South Side", "islet", None]
SHARES = [0.55, 0.35, 0.06, 0.04]  # by day: of 80 rows some 44, 28, 5 and 3
SEGMENTED = yaml.safe_dump({**yaml.safe_load(SPEC), "segments": {"by": "place", "min_rows": 40}})


def landed(world: World, through: date = NIGHT) -> World:
    """Land days whose rows lie in three places of very different size, or in none."""
    for i in range((through - FIRST).days + 1):
        day = FIRST + timedelta(days=i)
        random = np.random.default_rng(day.toordinal())
        world.land(day, **columns(random, day, 2 * ROWS))
    return world


def columns(random: Any, day: date, rows: int) -> dict[str, Any]:
    """Return the columns of so many rows of a day: in the South it is hot where it would be cold elsewhere, so that models of one place beat one of all."""
    x, z = random.normal(size=rows), random.normal(size=rows)
    place = np.array([PLACES[i] for i in random.choice(len(PLACES), rows, p=SHARES)], dtype=object)
    far = np.abs(x) + 0.2 * random.normal(size=rows) > 0.7
    hot = far ^ (place == "South Side")
    return {"id": np.arange(rows) + day.toordinal() * 1000, "x": x, "z": z, "place": place.tolist(), "y": hot}


def both(
    world: World, cutoff: date = NIGHT, services: Services | None = None, **asked: Any
) -> tuple[Night, SegmentsResult, BaseException | None]:
    """Run a night and the nights of its segments."""
    night = world.night(cutoff, services, **asked)
    result, error = segments.run_all(night, world.pipeline(), services or world.services)
    return night, result, error
