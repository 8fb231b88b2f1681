"""What the rest of Airflow hears of a new champion: an asset for each pipeline, on which other DAGs can be scheduled."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk import Asset, AssetAlias

if TYPE_CHECKING:
    from ratchet.domain.ledger import Champion
    from ratchet.domain.models import ModelVersion

# What a task declares that learns only when it runs whose champion has changed.
ANY_CHAMPION = AssetAlias(name="champion", group="ratchet")


def champion_asset(name: str) -> Asset:
    """Return the asset that changes when a pipeline gets a new champion; other DAGs can be scheduled on it."""
    return Asset(name=f"{name}.champion", uri=f"x-ratchet://champion/{name}", group="ratchet")


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
