"""Links from a task to what it left behind. Each address is worked out when the task ends and kept beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from airflow.sdk import BaseOperatorLink
from airflow.sdk.configuration import conf

if TYPE_CHECKING:
    from ratchet.domain.night import Night, StepName


class StepLink(BaseOperatorLink):  # type: ignore[misc, unused-ignore]
    """A link whose address the step's operator knows once it has run."""

    def __init__(self, name: str) -> None:
        self._name = name

    @property
    def name(self) -> str:
        """What stands on the button."""
        return self._name

    @property
    def xcom_key(self) -> str:
        """Where Airflow keeps the address."""
        return f"_link_{self._name.lower().replace(' ', '_')}"

    def get_link(self, operator: Any, *, ti_key: Any) -> str:  # noqa: ARG002  Airflow's signature
        """Return the address, or nothing where the step did not get so far."""
        return str(operator.left_behind.get(self._name, ""))


LINKS: dict[StepName, tuple[str, ...]] = {
    "validate": ("Data Docs",),
    "tune": ("MLflow search",),
    "train": ("MLflow run",),
    "register": ("Model version",),
    "report": ("Report",),
}


def addresses(step: StepName, night: Night) -> dict[str, str]:
    """Return the addresses of what a step left behind, by the name of the link."""
    found: str | None = None
    if step == "validate" and night.validate_ and night.validate_.docs:
        found = page(night.validate_.docs)
    elif step == "tune" and night.tune:
        found = night.tune.mlflow_url
    elif step == "train" and night.train:
        found = night.train.mlflow_url
    elif step == "register" and night.register_:
        found = night.register_.url
    elif step == "report" and night.report:
        found = page(night.report.page)
    return {LINKS[step][0]: found} if found else {}


def page(key: str) -> str:
    """Return the address under which the plugin serves an object of the platform's bucket."""
    base = conf.get("api", "base_url", fallback="").rstrip("/")
    return f"{base}/ratchet/{quote(key)}"
