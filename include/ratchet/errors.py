"""Every error that Ratchet raises on purpose.

::

    RatchetError
    ├── UsageError                 the spec or the command is wrong            exit 2
    │   ├── SpecInvalid            a pipeline's YAML, suite or SQL
    │   ├── PipelineUnknown        no such pipeline in this home
    │   ├── SettingsInvalid        an environment variable or connection
    │   └── ActionRefused          what a person asked of a champion cannot be done
    ├── DataRejected               the night's data must not be trained on     exit 3
    ├── NightSkipped               there is too little to decide on            exit 0
    ├── NotExplained               a model cannot say what its scores rest on  exit 1
    ├── ServiceError               a service failed; it may pass, so retry     exit 1
    │   ├── ServiceRefused         wrong credentials or address; never retried
    │   ├── ObjectNotFound         nothing is stored under that key
    │   ├── ObjectChanged          the object is not the one that was pinned
    │   ├── ObjectCorrupt          its bytes are not those that were stored
    │   └── AlreadyExists          a conditional put lost
    └── IntegrityError             a record cannot be trusted; never retried   exit 1
        ├── LedgerBroken           the chain of ledger entries does not hold
        ├── ArtifactTampered       a model's bytes are not those recorded
        ├── RowsUnaccounted        landed rows are found nowhere, or counted twice
        └── ConditionalWritesIgnored  the store lets two writers win

Constructors take facts and own their wording. Each message says what, where, expected and found, and what to do.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def without_credentials(text: str) -> str:
    """Leave out user and password from every address in a text: what is shown, logged or stored must not carry them."""
    return re.sub(r"(?<=://)[^/?#\s]*@", "", text)


class RatchetError(Exception):
    """Base of every error that Ratchet raises on purpose."""

    exit_code = 1
    retryable = False


class UsageError(RatchetError):
    """The command, spec or configuration is wrong; nothing was run."""

    exit_code = 2


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong in a file: where it is, and what would be right."""

    file: str
    key: str
    message: str

    def __str__(self) -> str:
        """Render as ``file: key: message``."""
        return f"{self.file}: {self.key}: {self.message}" if self.key else f"{self.file}: {self.message}"


class SpecInvalid(UsageError):
    """A pipeline's YAML, or the suite or SQL that it names, does not hold."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in problems))


class PipelineUnknown(UsageError):
    """There is no spec of that name."""

    def __init__(self, name: str, home: str, known: Sequence[str]) -> None:
        self.name = name
        choices = ", ".join(known) if known else "none yet"
        super().__init__(f"no pipeline {name!r} in {home}/pipelines; there are: {choices}")


class SettingsInvalid(UsageError):
    """An environment variable or an Airflow connection has an unusable value."""

    def __init__(self, name: str, found: str, expected: str) -> None:
        whose = re.sub(
            r"^(\w[\w+.-]*://)?.*@", r"\1…@", found, flags=re.DOTALL
        )  # it need not be an address to hold a password
        super().__init__(f"{name}={whose!r}: expected {expected}")


class ActionRefused(UsageError):
    """What was asked of a pipeline's champion cannot be done, and nothing was changed."""

    def __init__(self, action: str, pipeline: str, why: str) -> None:
        self.action = action
        self.pipeline = pipeline
        super().__init__(f"{action} of {pipeline} refused: {why}")


class DataRejected(RatchetError):
    """The night's data must not be trained on.

    ``reason`` is a stable word (``corrupt``, ``empty``, ``changed`` …, FAULTS); ``detail`` says what, where and what to do.
    """

    exit_code = 3

    def __init__(self, reason: str, detail: str) -> None:
        self.reason = reason
        self.detail = detail
        super().__init__(f"{reason}: {detail}")


class NightSkipped(RatchetError):
    """There is too little data to decide on; the night ends visibly and the champion stays."""

    exit_code = 0

    def __init__(self, reason: str, detail: str) -> None:
        self.reason = reason
        self.detail = detail
        super().__init__(f"{reason}: {detail}")


class NotExplained(RatchetError):
    """What a model's predictions rest on cannot be told; they stand all the same."""

    def __init__(self, why: str) -> None:
        super().__init__(f"the model cannot be explained: {why}")


class ServiceError(RatchetError):
    """A service did not do what it was asked; the fault may pass, so a task retries."""

    retryable = True

    def __init__(self, service: str, doing: str, cause: object = "") -> None:
        self.service = service
        self.doing = doing
        super().__init__(without_credentials(f"{service}: {doing} failed" + (f": {cause}" if str(cause) else "")))


class ServiceRefused(ServiceError):
    """A service refused (403, wrong credentials, wrong address); asking again will not help."""

    retryable = False


class ObjectNotFound(ServiceError):
    """Nothing is stored under that key (any more)."""

    retryable = False

    def __init__(self, uri: str, version: str | None = None) -> None:
        self.uri = uri
        RatchetError.__init__(self, f"{uri}{f' version {version}' if version else ''} does not exist")


class ObjectChanged(ServiceError):
    """The object under the key is not the one that was pinned."""

    retryable = False

    def __init__(self, uri: str, expected: str, found: str) -> None:
        self.uri = uri
        RatchetError.__init__(self, f"{uri} has changed since it was pinned: expected {expected}, found {found}")


class ObjectCorrupt(ServiceError):
    """The object under the key is the one that was pinned, and yet its bytes are not those that were stored."""

    retryable = False

    def __init__(self, uri: str, expected: str, found: str, remedy: str = "") -> None:
        self.uri = uri
        RatchetError.__init__(
            self,
            f"{uri} is damaged: expected {expected}, found {found}, also when it was pulled again. Its bytes were not used. "
            f"{remedy or 'Restore it in the object store, or land it again'}",
        )


class AlreadyExists(ServiceError):
    """A conditional put lost: somebody else wrote the object first."""

    retryable = False

    def __init__(self, uri: str) -> None:
        self.uri = uri
        RatchetError.__init__(self, f"{uri} exists already")


class IntegrityError(RatchetError):
    """A stored record or artifact cannot be trusted; a person has to look."""


class LedgerBroken(IntegrityError):
    """The chain of ledger entries does not hold."""

    def __init__(
        self, pipeline: str, seq: int, why: str, todo: str = "restore the entry from the object store's versions"
    ) -> None:
        self.pipeline = pipeline
        self.seq = seq
        super().__init__(
            f"ledger of {pipeline}, entry {seq:08d}: {why}. No promotion is made on a ledger that does not verify; "
            f"{todo}, then run again."
        )


class ArtifactTampered(IntegrityError):
    """A model's bytes are not those that were recorded."""

    def __init__(self, what: str, expected: str, found: str) -> None:
        super().__init__(
            f"{what}: its sha256 is {found}, recorded was {expected}. It was not loaded. Restore the artifact, "
            "or roll back to a version whose artifact is whole."
        )


class RowsUnaccounted(IntegrityError):
    """Of the rows that have landed some are found nowhere, or counted twice."""

    def __init__(self, pipeline: str, why: str, account: str) -> None:
        super().__init__(
            f"{pipeline}: {why}; the account is {account}. No model was logged. Nothing that was counted so can be trusted: clear "
            "RATCHET_CACHE and run the night again, and if it says the same, report it with the night's record"
        )


class ConditionalWritesIgnored(IntegrityError):
    """The object store lets two writers of the same key both win."""

    def __init__(self, endpoint: str) -> None:
        super().__init__(
            f"the object store at {without_credentials(endpoint)} ignores conditional writes (If-None-Match: *): two promoters could both win. "
            "Promotion is refused; use a store that honours them (AWS S3, MinIO, Ceph, ministack)."
        )
