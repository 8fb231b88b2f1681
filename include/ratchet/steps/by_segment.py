"""A feature frame cut by segment: sorted once, kept beside the frame, so that each of hundreds of segments is a slice of one file."""

from __future__ import annotations

import uuid
from contextlib import suppress
from typing import TYPE_CHECKING

from pydantic import ValidationError

from ratchet.domain.records import Record, digest
from ratchet.domain.segments import slug_of
from ratchet.errors import Problem, SpecInvalid
from ratchet.local_cache import full_disk_rejects, intact, remember, use
from ratchet.tables import LABELS, FeatureFrame

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    import pyarrow as pa

    from ratchet.spec import Pipeline

_BATCH = 100_000  # rows that are gathered at once
_MOST = 100_000  # values; a column of more names rows, not segments


class Part(Record):
    """Where one segment's rows lie in the sorted file."""

    value: str
    first: int
    rows: int


class Parts(Record):
    """The sorted file's table of contents."""

    rows: int  # of the whole frame
    of_none: int  # without a value; they lie behind all others
    columns: dict[str, dict[str, str]]
    parts: dict[str, Part]  # by slug


def of_segment(cache: Path, frame: FeatureFrame, key: str, pipeline: Pipeline) -> FeatureFrame:
    """Return a segment's rows of a kept frame, in the frame's order; none where no row has its value."""
    file, parts = sorted_by(cache, frame, key, pipeline)
    part = parts.parts.get(pipeline.segment) or Part(value="", first=0, rows=0)
    whole = FeatureFrame.of_file(file, landed=part.rows, unlabelled=0, dropped=0, columns=parts.columns)
    return whole.model_copy(update={"table": whole.table.slice(part.first, part.rows)})


def sorted_by(cache: Path, frame: FeatureFrame, key: str, pipeline: Pipeline) -> tuple[Path, Parts]:
    """Return the file in which a frame's rows lie by segment, and what lies where; made on first use.

    Args:
        cache: the local cache.
        frame: all rows.
        key: identifies its content.
        pipeline: says by which column.

    Raises:
        SpecInvalid: the column is no feature, or has too many values to be one of segments.
    """
    assert pipeline.spec.segments
    by, place = pipeline.spec.segments.by, f"pipelines/{pipeline.spec.name}.yaml"
    features = [name for name in frame.table.column_names if name not in LABELS]
    if by not in features:
        words = f"{by!r} is no feature of the query; there are: {', '.join(features)}"
        raise SpecInvalid([Problem(place, "segments.by", words)])
    folder, name = cache / "frames", digest([key, "by", by])
    file, contents = folder / f"{name}.arrow", folder / f"{name}.json"
    if use(cache, file, contents) and intact(cache, file) and intact(cache, contents):
        with suppress(ValidationError):
            return file, Parts.model_validate_json(contents.read_bytes())
    codes, values = codes_of(frame.table[by])
    if len(values) > _MOST:
        words = (
            f"{by!r} has {len(values)} values in the window, which is more than {_MOST}: it names rows, not segments"
        )
        raise SpecInvalid([Problem(place, "segments.by", words)])
    aside = folder / f".{name}-{uuid.uuid4().hex}"
    try:
        with full_disk_rejects(cache, "the feature frame by segment"):
            parts = _write(frame, codes, values, aside)
            aside.replace(file)
            remember(cache, file)
            aside.write_text(parts.model_dump_json())
            aside.replace(contents)
            remember(cache, contents)
    finally:
        aside.unlink(missing_ok=True)
    return file, parts


def codes_of(column: pa.ChunkedArray) -> tuple[np.ndarray, list[str]]:
    """Return each row's number of its value's text, in order of these texts, and the texts; rows without a value come last.

    That is the one place that says which segment a row is in, at night and for whoever serves.
    """
    import numpy as np  # noqa: PLC0415
    import pyarrow as pa  # noqa: PLC0415

    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    met: dict[str, int] = {}
    found = []
    for chunk in column.chunks:
        coded = chunk.dictionary_encode()
        texts = [str(value) for value in coded.dictionary.to_pylist()]
        numbers = np.array([met.setdefault(text, len(met)) for text in texts] + [-1], dtype=np.int32)
        found.append(numbers[coded.indices.fill_null(len(texts)).to_numpy()])
    values = sorted(met)
    places = np.full(len(met) + 1, len(met), dtype=np.int32)  # the last is of -1
    for place, text in enumerate(values):
        places[met[text]] = place
    return places[np.concatenate(found)] if found else np.zeros(0, np.int32), values


def _write(frame: FeatureFrame, codes: np.ndarray, values: list[str], out: Path) -> Parts:
    """Write the rows in order of their segments, batch by batch; in a segment they stay in order."""
    import numpy as np  # noqa: PLC0415
    import pyarrow as pa  # noqa: PLC0415

    order = np.argsort(codes, kind="stable")
    counts = np.bincount(codes, minlength=len(values) + 1)
    starts = np.concatenate([[0], np.cumsum(counts)])
    with pa.OSFile(str(out), "wb") as file, pa.ipc.new_file(file, frame.table.schema) as writer:
        for start in range(0, len(order), _BATCH):
            writer.write_table(frame.table.take(pa.array(order[start : start + _BATCH])).combine_chunks())
            frame.forget()
    parts: dict[str, Part] = {}
    for number, value in enumerate(values):
        slug = slug_of(value)
        assert slug not in parts, f"two values share the slug {slug}"
        parts[slug] = Part(value=value, first=int(starts[number]), rows=int(counts[number]))
    columns = {name: dict(types) for name, types in frame.columns.items()}
    return Parts(rows=len(codes), of_none=int(counts[len(values)]), columns=columns, parts=parts)
