"""What a trained model is made of: data only."""

from __future__ import annotations

from datetime import date
from typing import Literal

from ratchet.domain.records import Record, digest, sha256

Task = Literal["binary", "multiclass", "regression", "quantile", "ranking"]
CLASSIFIED: tuple[Task, ...] = ("binary", "multiclass")  # whose labels are classes; those of the others are numbers

ModelName = Literal[
    "model", "evaluated"
]  # of a run's models: the one that is registered, and where that is another, the one that was judged


class Feature(Record):
    """One column that the booster reads, in the booster's order."""

    name: str
    kind: Literal["number", "category"]
    categories: tuple[str, ...] = ()  # of a category: those met in training, sorted; any other value counts as missing


class ModelSchema(Record):
    """How to turn rows into the booster's matrix and its output into predictions."""

    task: Task
    features: tuple[Feature, ...]
    classes: tuple[str, ...] = ()  # of a classification: label of each column of the output, in order
    quantiles: tuple[float, ...] = ()  # of a quantile task: of each column of the output, in order
    best_iteration: int  # the last boosting round that scores use, from 0
    tables: dict[str, dict[str, str]] = {}  # table name → column → DuckDB type, as the features query reads them
    hidden: tuple[str, ...] = ()  # columns of rows that are unknown at prediction time
    target: str = ""  # SQL expression of the label, for the record
    group: str = ""  # of a ranking: SQL expression of the list that a row stands in, for the record

    def strange_to(self, task: Task, quantiles: tuple[float, ...]) -> str | None:
        """Say why predictions cannot be compared with those of another task, or of other quantiles."""
        if self.task != task:
            return f"the model was made for a {self.task} task, the spec asks for {task}"
        if self.quantiles != quantiles:
            ours, theirs = (", ".join(f"{q:g}" for q in side) for side in (self.quantiles, quantiles))
            return f"the model predicts the quantiles {ours}, the spec asks for {theirs}"
        return None


class ModelFiles(Record):
    """The three files of a model, byte for byte."""

    booster: bytes  # XGBoost UBJSON
    features: str  # features.sql
    schema_: ModelSchema

    @property
    def files(self) -> dict[str, bytes]:
        """The files by name, as they are stored."""
        return {
            "booster.ubj": self.booster,
            "features.sql": self.features.encode(),
            "schema.json": self.schema_.model_dump_json(indent=1, exclude=self._unsaid).encode(),
        }

    @property
    def _unsaid(self) -> set[str]:
        """What other tasks have no use for: their files stay as they were before there was such a field, byte for byte."""
        return {name for name in ("quantiles", "group") if not getattr(self.schema_, name)}

    @property
    def digest(self) -> str:
        """The sha256 that the ledger records: over each file's name and sha256."""
        return files_digest(self.files)


def files_digest(files: dict[str, bytes]) -> str:
    """Return one sha256 over a set of named files."""
    return digest({name: sha256(data) for name, data in sorted(files.items())})


class ModelVersion(Record):
    """A registered version, and what is needed to know it again."""

    version: int
    run_key: str
    mlflow_run_id: str
    artifact_digest: str
    seen_through: date  # the newest day that its fit or early stopping met
    cutoff: date
    recipe: str = ""  # digest of what decided the model, code included: two versions of one recipe differ by data only
    recipe_spec: str = ""  # the same without the code
    created: str = ""  # ISO 8601, as the registry says
