"""Fixtures of the step tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from small_world import World

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A world with enough days for one night."""
    return World(tmp_path).land_all()


@pytest.fixture(scope="session")
def _reigning(tmp_path_factory: pytest.TempPathFactory) -> World:
    made = World(tmp_path_factory.mktemp("reigning")).land_all()
    made.night()
    return made


@pytest.fixture
def reigning(_reigning: World, tmp_path: Path) -> World:
    """A world in which the first night has made a champion."""
    return _reigning.copy(tmp_path)
