"""The embedded stack: an S3 server, MLflow and Airflow on this machine, supervised, all on the loopback address.

::

    up(progress=...)     start what does not run, wait until all is well        -> Status
    status()             what runs, where, since when, how it is                -> Status
    environment()        the variables by which a client finds the running stack
    down()               stop everything that `up` started, and nothing else
    embedded(folder)     the same for a `with` block in a test
"""

from ratchet.stack.control import Progress, down, environment, project_root, state_folder, status, up
from ratchet.stack.embedded import Embedded, embedded
from ratchet.stack.view import ServiceView, Status

__all__ = [
    "Embedded",
    "Progress",
    "ServiceView",
    "Status",
    "down",
    "embedded",
    "environment",
    "project_root",
    "state_folder",
    "status",
    "up",
]
