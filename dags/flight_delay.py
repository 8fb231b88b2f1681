"""Airflow DAG: retrain flight_delay nightly."""

from ratchet.orchestration import training_dag

dag = training_dag("flight_delay")
