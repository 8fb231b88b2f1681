"""Airflow DAG: send a champion back to one that served before.

Trigger it, choose the pipeline and say why. Without a version, the last champion that *served* before this one comes back;
before it does, it is loaded afresh, its bytes are checked against the ledger, and it scores rows of today's schema. The run's
note says what happened. Whoever may trigger this DAG may roll back; the ledger keeps your name and your reason.

After a rollback the next nights judge challengers against the champion that is back. To keep them from promoting anybody
meanwhile, trigger `freeze`.
"""

from ratchet.orchestration.actions import action_dag

dag = action_dag("rollback", __doc__)
