"""Airflow DAG: land yesterday's flights for the demo, an hour before flight_delay retrains.

The flights are real ones of 2013, moved by whole weeks so that each of them falls on the same weekday, in the same season,
of a day that has just ended. Pause this DAG where no demo is wanted.
"""

from ratchet.orchestration.demo_feed import feed_dag

dag = feed_dag(__doc__)
