"""Airflow's configuration, as environment variables: the whole of it, so that no airflow.cfg decides anything."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

from ratchet.stack.folder import ROLES
from ratchet.stack.ports import HOST

if TYPE_CHECKING:
    from ratchet.stack.folder import Folder, Plan, Secrets

_PRELOAD = ("airflow.executors.local_executor", "airflow.sdk.execution_time.task_runner", "ratchet.stack.preload")


def airflow_environment(folder: Folder, plan: Plan, secrets: Secrets, database: str) -> dict[str, str]:
    """Return the variables that make every Airflow process of the stack agree."""
    port = plan.ports["airflow"]
    address = f"http://{HOST}:{port}"
    cpus = os.cpu_count() or 2
    sections: dict[str, dict[str, object]] = {
        "core": {
            "executor": "LocalExecutor",
            "dags_folder": plan.dags,
            "plugins_folder": plan.plugins,
            "load_examples": False,
            "parallelism": min(32, max(4, 2 * cpus)),
            "max_active_runs_per_dag": 4,
            "fernet_key": secrets.fernet,
            "hostname_callable": "socket.gethostname",  # the default asks DNS, which can take seconds
            "execution_api_server_url": f"{address}/execution/",
            "simple_auth_manager_users": ",".join(f"{role}:{role}" for role in ROLES),
            "simple_auth_manager_passwords_file": folder.airflow / "passwords.json",
            # Tasks are forked from a process that has imported their libraries already: ten seconds less for each.
            "mp_forkserver_preload": ",".join(_PRELOAD),
            "min_serialized_dag_update_interval": 5,
            "min_serialized_dag_fetch_interval": 5,
        },
        "database": {"sql_alchemy_conn": database, "load_default_connections": False},
        "api": {
            "host": HOST,
            "port": port,
            "base_url": address,
            "workers": 1,
            "expose_config": False,
            "secret_key": secrets.session,
        },
        "api_auth": {"jwt_secret": secrets.jwt},
        "scheduler": {
            "mp_start_method": "forkserver",
            # A task's successor is seen at the scheduler's next look, so the pause between looks is paid once a task.
            "scheduler_idle_sleep_time": 0.2,
            "job_heartbeat_sec": 5,
            "task_instance_heartbeat_timeout": 60,
            "task_instance_heartbeat_timeout_detection_interval": 10,
            "orphaned_tasks_check_interval": 60,
            "enable_health_check": False,
        },
        "dag_processor": {
            "refresh_interval": 10,
            "min_file_process_interval": 30,
            "parsing_processes": 1,
            "bundle_refresh_check_interval": 5,
            "disable_bundle_versioning": True,
        },
        "logging": {"base_log_folder": folder.logs / "tasks", "logging_level": "INFO", "colored_console_log": False},
        # The process that runs a task notices its end at the next heartbeat at the latest, and takes no other task until then.
        "workers": {"min_heartbeat_interval": 1},
        "usage_data_collection": {"enabled": False},
    }
    return {"AIRFLOW_HOME": str(folder.airflow)} | {
        f"AIRFLOW__{section.upper()}__{key.upper()}": str(value)
        for section, values in sections.items()
        for key, value in values.items()
    }


def passwords_file(secrets: Secrets) -> str:
    """Render the file that Airflow's simple auth manager reads."""
    return json.dumps(secrets.passwords) + "\n"
