"""A row can be handed in as it lands; it is explained by the version's own query and booster."""

from __future__ import annotations

import io
import json

import pyarrow.parquet as pq
import pytest
from small_world import NIGHT

from ratchet.cli.explain import raw_row
from ratchet.errors import ActionRefused, DataRejected, UsageError
from ratchet.steps.explain_row import explain_row, model
from ratchet.steps.versions import known

RAW = {"dt": str(NIGHT), "id": 1, "x": 0.25, "z": -1.5, "place": "north"}


@pytest.fixture
def files(reigning):
    """The champion's model."""
    return model(reigning.services, known(reigning.services, "small", None, "explanation"))


def test_a_raw_row_is_explained_as_the_night_predicted_it(reigning, files):
    """The values that landed, handed in as JSON, lead to the very prediction that the night has kept."""
    landed = pq.read_table(io.BytesIO(reigning.store.get(reigning.uri(NIGHT)))).drop_columns(["y"]).to_pylist()
    (key,) = [key for key in reigning.store.keys("runs/") if key.endswith("predictions.parquet")]
    kept = pq.read_table(io.BytesIO(reigning.store.get(key))).to_pylist()[-40:]
    version = known(reigning.services, "small", None, "explanation")
    for raw, row in list(zip(landed, kept, strict=True))[::8]:
        table = raw_row("small", files, json.dumps({**raw, "dt": str(NIGHT)}))
        found = explain_row(reigning.services, "small", version, files, table, "the row that was given")
        assert found.prediction == row["challenger"]


def test_a_file_is_read_as_well(files, tmp_path):
    """JSON or CSV; a CSV's texts become what the query reads."""
    (tmp_path / "row.json").write_text(json.dumps({"rows": [RAW]}))
    (tmp_path / "row.csv").write_text("dt,id,x,z,place\n" + ",".join(map(str, RAW.values())) + "\n")
    by_file = [raw_row("small", files, str(tmp_path / name)).to_pylist() for name in ("row.json", "row.csv")]
    assert by_file[0] == by_file[1] == raw_row("small", files, json.dumps(RAW)).to_pylist()
    (tmp_path / "gap.csv").write_text(f"dt,id,x,z,place\n{NIGHT},1,,0.5,\n")
    (row,) = raw_row("small", files, str(tmp_path / "gap.csv")).to_pylist()
    assert (row["x"], row["place"]) == (None, None)


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ("{nonsense", UsageError, "not JSON"),
        ("no-such-file.csv", UsageError, "there is no such file"),
        ("[]", UsageError, "an object of column and value"),
        ("[1, 2]", UsageError, "an object of column and value"),
        ('{"weather": [{"dt": "2024-03-01"}]}', UsageError, "expected the table `rows`"),
        (json.dumps([RAW, RAW]), ActionRefused, "expected one row, found 2"),
        (json.dumps({"dt": RAW["dt"], "x": 1}), DataRejected, "lacks"),
    ],
)
def test_what_is_no_row_is_refused(files, given, error, words):
    """In words that say what was expected."""
    with pytest.raises(error, match=words):
        raw_row("small", files, given)


def test_a_row_that_the_query_leaves_out_is_said(files):
    """Where no prediction would be made there is none to explain."""
    picky = files.model_copy(update={"features": "SELECT row_id, x, z, place FROM rows WHERE x > 0"})
    with pytest.raises(ActionRefused, match="leaves the given row out"):
        raw_row("small", picky, json.dumps({**RAW, "x": -1.0}))
