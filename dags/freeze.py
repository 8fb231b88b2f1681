"""Airflow DAG: let nobody be promoted, until a day or until somebody triggers `thaw`.

Nights go on: they train, judge and report, and say that the champion is frozen. A rollback is still possible. Whoever may
trigger this DAG may freeze; the ledger keeps your name and your reason.
"""

from ratchet.orchestration.actions import action_dag

dag = action_dag("freeze", __doc__)
