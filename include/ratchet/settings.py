"""Where the services are: from the environment, or from Airflow connections that the orchestration hands in."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pydantic import SecretStr

from ratchet.domain.records import Record
from ratchet.errors import SettingsInvalid

if TYPE_CHECKING:
    from collections.abc import Mapping


class Settings(Record):
    """Addresses of the services. Credentials of the object store stay in the usual AWS variables or profiles."""

    s3_endpoint: str | None  # None: AWS itself
    bucket: str  # the platform's own
    tracking_uri: str  # "" where none is named
    cache: Path
    signing_key: Path | None = None  # private key that ledger entries are signed with
    signing_key_password: SecretStr | None = None
    trusted_keys: Path | None = None  # public keys whose signatures count: a file or a folder
    alert_url: SecretStr | None = None  # where alerts are posted; such addresses are secrets


def settings(environment: Mapping[str, str] | None = None) -> Settings:
    """Read the settings.

    Args:
        environment: by default the process's own; ``RATCHET_S3_ENDPOINT``, ``RATCHET_BUCKET``, ``MLFLOW_TRACKING_URI``,
            ``RATCHET_CACHE``, ``RATCHET_SIGNING_KEY`` (with ``RATCHET_SIGNING_KEY_PASSWORD``), ``RATCHET_TRUSTED_KEYS`` and
            ``RATCHET_ALERT_URL`` are read.

    Raises:
        SettingsInvalid: an address is none.
    """
    env = os.environ if environment is None else environment
    endpoint = env.get("RATCHET_S3_ENDPOINT") or env.get("AWS_ENDPOINT_URL_S3") or env.get("AWS_ENDPOINT_URL") or None
    tracking = env.get("MLFLOW_TRACKING_URI", "")
    for name, value in (("RATCHET_S3_ENDPOINT", endpoint), ("MLFLOW_TRACKING_URI", tracking or None)):
        if value is not None and (urlsplit(value).scheme not in {"http", "https"} or not urlsplit(value).netloc):
            raise SettingsInvalid(name, value, "the address of a server, such as http://127.0.0.1:5000")
    alerts = env.get("RATCHET_ALERT_URL")
    if alerts and (urlsplit(alerts).scheme not in {"http", "https"} or not urlsplit(alerts).hostname):
        raise SettingsInvalid(
            "RATCHET_ALERT_URL", "…", "the address of a webhook, such as https://alerts.example.com/hook"
        )
    password = env.get("RATCHET_SIGNING_KEY_PASSWORD")
    home_cache = Path(env.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Settings(
        s3_endpoint=endpoint,
        bucket=env.get("RATCHET_BUCKET") or "ratchet",
        tracking_uri=tracking,
        cache=Path(env.get("RATCHET_CACHE") or home_cache / "ratchet"),
        signing_key=_path(env.get("RATCHET_SIGNING_KEY")),
        signing_key_password=SecretStr(password) if password else None,
        trusted_keys=_path(env.get("RATCHET_TRUSTED_KEYS")),
        alert_url=SecretStr(alerts) if alerts else None,
    )


def _path(given: str | None) -> Path | None:
    return Path(given).expanduser() if given else None
