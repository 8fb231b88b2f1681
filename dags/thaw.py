"""Airflow DAG: let promotions go on after a `freeze`.

Whoever may trigger this DAG may thaw; the ledger keeps your name and your reason.
"""

from ratchet.orchestration.actions import action_dag

dag = action_dag("thaw", __doc__)
