"""The night in Airflow: one factory, thin tasks, and what the grid says about them; and what a person asks of a champion."""

from ratchet.orchestration.dag import training_dag
from ratchet.orchestration.events import champion_asset

__all__ = ["champion_asset", "training_dag"]
