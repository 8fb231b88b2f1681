"""What the README shows must work as it stands there."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from ratchet.adapters.duck import check
from ratchet.domain.gates import METRICS
from ratchet.home import load_pipeline
from ratchet.spec import json_schema

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()


def snippet(language: str, containing: str) -> str:
    """Return the README's code block of a language that contains a text."""
    blocks = re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)
    return next(block for block in blocks if containing in block)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home of the three files that the README shows."""
    files = {
        "pipelines/churn.yaml": snippet("yaml", "name: churn"),
        "features/churn.sql": snippet("sql", "FROM rows"),
        "suites/churn.json": snippet("json", "expectations"),
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_pipeline_of_the_readme_is_valid(home: Path) -> None:
    """A user who copies the README's spec, query and suite has a pipeline without problems."""
    loaded = load_pipeline("churn", home)
    assert check(loaded) == []
    assert [gate.kind for gate in loaded.spec.gates] == ["bound", "evidence"]


def test_the_pages_name_every_metric_and_loss() -> None:
    """The page on evaluation lists each metric that a gate may name, the one on tasks each loss."""
    kinds = json_schema()["$defs"]
    metrics = [name for names in METRICS.values() for name in names]
    for page, names in (("evaluation", metrics), ("tasks", kinds["ChampionGate"]["properties"]["loss"]["enum"])):
        text = (ROOT / "docs" / f"{page}.md").read_text()
        for name in names:
            assert f"`{name}`" in text, (page, name)


def test_links_of_the_readme_lead_somewhere() -> None:
    """Each relative link and image of the README names something that exists."""
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


def test_editors_schema_is_the_models_schema() -> None:
    """The committed JSON Schema is the one that the models generate; `make schema` writes it."""
    assert json.loads((ROOT / "include" / "pipelines" / "pipeline.schema.json").read_text()) == json.loads(
        json.dumps(json_schema())
    )
