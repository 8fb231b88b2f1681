"""Finds the services: from the environment, or from the embedded stack where that runs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ratchet.steps.context import Services


def connect() -> Services:
    """Build the services. What the environment says goes before what the embedded stack offers."""
    use_stack()
    from ratchet.wiring import services

    return services()


def use_stack() -> None:
    """Take the addresses and keys of a running embedded stack, unless the environment names other services."""
    if os.environ.get("RATCHET_S3_ENDPOINT") or os.environ.get("MLFLOW_TRACKING_URI"):
        return
    from ratchet.stack import environment, state_folder

    found = environment()
    if found:
        os.environ.update(found)
        os.environ.setdefault("RATCHET_CACHE", str(state_folder().root / "cache"))


def connect_for(pipeline: str, home: Path | None) -> Services:
    """Build the services for a question about a pipeline that must exist, or about one of its segments.

    Raises:
        PipelineUnknown: it does not.
    """
    from ratchet.domain.segments import parent_of
    from ratchet.errors import PipelineUnknown
    from ratchet.home import default_home, pipeline_names

    where = home or default_home()
    names = pipeline_names(where)
    if parent_of(pipeline) not in names:
        raise PipelineUnknown(pipeline, str(where), names)
    return connect()
