"""Airflow DAG: tell of every night that has come to no decision by its deadline, be it late, stuck, failed or never begun.

It looks every hour at each pipeline's newest decided night and at its schedule, so it notices what no run can report of
itself: a paused or broken DAG, a night that hangs, a store that lost it. It alerts once a night, and stays red until the
night is decided. A pipeline is watched from its first night on; `deadline_hours` in its spec says how long a night may take.

It needs a living scheduler. What watches that is a cron job elsewhere: `ratchet overdue`, exit status 1 where one is.
"""

from ratchet.orchestration.watchdog import watchdog_dag

dag = watchdog_dag(__doc__)
