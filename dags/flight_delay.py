"""Airflow DAG: retrain flight_delay nightly."""

from ratchet.orchestration.dag import training_dag

dag = training_dag("flight_delay")
