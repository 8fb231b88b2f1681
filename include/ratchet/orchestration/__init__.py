"""The night in Airflow: one factory, thin tasks, and what the grid says about them."""

from ratchet.orchestration.dag import champion_asset, training_dag

__all__ = ["champion_asset", "training_dag"]
