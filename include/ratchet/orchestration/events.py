"""What the rest of Airflow hears of a new champion: an asset for each pipeline, on which other DAGs can be scheduled."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk import Asset, AssetAlias

if TYPE_CHECKING:
    from ratchet.domain.drifted import DriftResult
    from ratchet.domain.ledger import Champion
    from ratchet.domain.models import ModelVersion

# What a task declares that learns only when it runs whose champion has changed, or whose data has moved.
ANY_CHAMPION = AssetAlias(name="champion", group="ratchet")
ANY_DRIFT = AssetAlias(name="drift", group="ratchet")


def champion_asset(name: str) -> Asset:
    """Return the asset that changes when a pipeline gets a new champion; other DAGs can be scheduled on it."""
    return Asset(name=f"{name}.champion", uri=f"x-ratchet://champion/{name}", group="ratchet")


def drift_asset(name: str) -> Asset:
    """Return the asset that changes when a pipeline's data has moved and its spec asks for a retrain."""
    return Asset(name=f"{name}.drift", uri=f"x-ratchet://drift/{name}", group="ratchet")


def drifted(pipeline: str, found: DriftResult) -> dict[str, Any]:
    """Return what a consumer needs to know of what has moved."""
    return {
        "pipeline": pipeline,
        "champion": found.champion,
        "day": str(found.day),
        "since": str(found.since),
        "subjects": [s.subject for s in found.subjects if s.drifted],
    }


def news(pipeline: str, champion: Champion | ModelVersion, entry: int | None) -> dict[str, Any]:
    """Return what a consumer needs to load exactly this champion, and to look up why it serves."""
    return {
        "pipeline": pipeline,
        "version": champion.version,
        "run_key": champion.run_key,
        "cutoff": str(champion.cutoff),
        "artifact_digest": champion.artifact_digest,
        "entry": entry,
    }
