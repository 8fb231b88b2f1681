"""Who may approve: users by the id that Airflow's auth manager gives them, or ``role:op`` for each user of that role."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.sdk.configuration import conf

from ratchet.errors import Problem, SpecInvalid

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ratchet.spec import Pipeline

_ROLE = "role:"


def users(approvers: Iterable[str], where: str) -> tuple[str, ...]:
    """Return the ids of those who may approve; nobody named is anybody.

    Raises:
        SpecInvalid: a role has no user, or Airflow's auth manager does not tell tasks who has it.
    """
    found: list[str] = []
    for name in approvers:
        mine = _of_role(name.removeprefix(_ROLE)) if name.startswith(_ROLE) else [name]
        if not mine:
            words = (
                f"{name!r} stands for nobody: roles are those of Airflow's simple auth manager ([core] simple_auth_manager_users); "
                "with another one, name the users by the id that it gives them"
            )
            raise SpecInvalid([Problem(where, "approval.approvers", words)])
        found += mine
    return tuple(dict.fromkeys(found))


def _of_role(role: str) -> list[str]:
    if "SimpleAuthManager" not in conf.get("core", "auth_manager", fallback=""):
        return []
    known = (entry.partition(":") for entry in conf.get("core", "simple_auth_manager_users", fallback="").split(","))
    return [user.strip() for user, _, its in known if its.strip() == role]


def named(pipeline: Pipeline) -> Pipeline:
    """Return the pipeline with its roles put into names, for what does not know Airflow."""
    spec = pipeline.spec
    approvers = users(spec.approval.approvers, f"pipelines/{spec.name}.yaml")
    approval = spec.approval.model_copy(update={"approvers": approvers})
    return pipeline.model_copy(update={"spec": spec.model_copy(update={"approval": approval})})
