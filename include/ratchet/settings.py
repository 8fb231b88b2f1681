"""Where the services are: from the environment, or from Airflow connections that the orchestration hands in."""

from __future__ import annotations

import os
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pydantic import SecretStr

from ratchet.domain.records import Record
from ratchet.errors import SettingsInvalid

if TYPE_CHECKING:
    from collections.abc import Mapping

_LEAST_GIB = 1.0  # the libraries alone take half of it


class Settings(Record):
    """Addresses of the services. Credentials of the object store stay in the usual AWS variables or profiles."""

    s3_endpoint: str | None  # None: AWS itself
    bucket: str  # the platform's own
    tracking_uri: str  # "" where none is named
    cache: Path
    cache_cap: int | None = None  # bytes that the cache may hold; None for as many as its disk does
    md5_etags: bool = True  # whether the object store's ETags are MD5s, where they look like it
    signing_key: Path | None = None  # private key that ledger entries are signed with
    signing_key_password: SecretStr | None = None
    trusted_keys: Path | None = None  # public keys whose signatures count: a file or a folder
    alert_url: SecretStr | None = None  # where alerts are posted; such addresses are secrets
    dask: str | None = None  # address of the scheduler where specs of engine dask are fitted
    memory_gib: float = 4.0  # that a night may take; what does not fit is put aside on disk


def settings(environment: Mapping[str, str] | None = None) -> Settings:
    """Read the settings.

    Args:
        environment: by default the process's own; ``RATCHET_S3_ENDPOINT``, ``RATCHET_BUCKET``, ``MLFLOW_TRACKING_URI``,
            ``RATCHET_CACHE``, ``RATCHET_CACHE_GIB``, ``RATCHET_MEMORY_GIB``, ``RATCHET_S3_ETAGS``, ``RATCHET_SIGNING_KEY`` (with
            ``RATCHET_SIGNING_KEY_PASSWORD``), ``RATCHET_TRUSTED_KEYS``, ``RATCHET_ALERT_URL`` and ``RATCHET_DASK`` are read.

    Raises:
        SettingsInvalid: an address is none, or the memory no number.
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
        cache_cap=_gib("RATCHET_CACHE_GIB", env.get("RATCHET_CACHE_GIB") or "20"),
        md5_etags=_one_of("RATCHET_S3_ETAGS", env.get("RATCHET_S3_ETAGS") or "md5", ("md5", "opaque")) == "md5",
        signing_key=_path(env.get("RATCHET_SIGNING_KEY")),
        signing_key_password=SecretStr(password) if password else None,
        trusted_keys=_path(env.get("RATCHET_TRUSTED_KEYS")),
        alert_url=SecretStr(alerts) if alerts else None,
        dask=_scheduler(env.get("RATCHET_DASK")),
        memory_gib=_memory(env.get("RATCHET_MEMORY_GIB") or "4"),
    )


def _memory(given: str) -> float:
    try:
        gib = float(given)
    except ValueError:
        gib = 0.0
    if not _LEAST_GIB <= gib < inf:
        raise SettingsInvalid("RATCHET_MEMORY_GIB", given, f"GiB of memory that a night may take, {_LEAST_GIB} or more")
    return gib


def _scheduler(given: str | None) -> str | None:
    if not given:
        return None
    parts = urlsplit(given)
    try:
        known = parts.scheme in {"tcp", "tls"} and bool(parts.hostname) and parts.port is not None
    except ValueError:  # the port is no number
        known = False
    if not known:
        raise SettingsInvalid("RATCHET_DASK", given, "the address of a Dask scheduler, such as tcp://10.0.0.5:8786")
    return given


def _path(given: str | None) -> Path | None:
    return Path(given).expanduser() if given else None


def _gib(name: str, given: str) -> int:
    """Read a number of GiB as bytes."""
    try:
        size = float(given) * (1 << 30)
        if 0 < size < float("inf"):
            return int(size)
    except ValueError:
        pass
    raise SettingsInvalid(name, given, "a number of GiB above 0, such as 20 or 0.5")


def _one_of(name: str, given: str, choices: tuple[str, ...]) -> str:
    if given not in choices:
        raise SettingsInvalid(name, given, " or ".join(choices))
    return given
