"""What lands may be unfinished, gone, changed, broken or hostile: the night says so by name, and the champion stands."""

from __future__ import annotations

import gzip
import io
import json
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from contract.conftest import Proxy
from integration.lakes import (
    CHAMPION,
    DAY,
    FIRST,
    ROWS,
    TONIGHT,
    Lake,
    Lakes,
    crowned,
    csv,
    parquet,
    rejected,
    table,
    unharmed,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ratchet.stack import Embedded


@pytest.fixture
def proxy(stack: Embedded) -> Iterator[Proxy]:
    """A proxy before the object store."""
    made = Proxy(stack.environment["RATCHET_S3_ENDPOINT"])
    yield made
    made.close()


# Object overwritten after it was pinned; pinned versions that are gone.


@pytest.mark.parametrize("versioned", [True, False], ids=["bucket keeps versions", "bucket keeps none"])
def test_object_overwritten_while_the_night_reads_it(
    stack: Embedded, tmp_path: Path, proxy: Proxy, *, versioned: bool
) -> None:
    """Between the listing and the read an object is overwritten: its pinned version is read, or the night is rejected as changed."""
    lake = crowned(Lake.fresh(stack, tmp_path, versioned=versioned))
    expected = lake.dry().night["snapshot"]["digest"]

    def overwritten(method: str, path: str, before: int) -> str:
        if method == "GET" and lake.key().replace("=", "%3D") in path.replace("=", "%3D") and not before:
            lake.land(x=[0.0] * ROWS)
        return "pass"

    proxy.fault = overwritten
    there = lake.behind(proxy.address, tmp_path / "there")
    if versioned:
        with unharmed(lake):
            found = there.dry()
        assert found.night["snapshot"]["digest"] == expected
        assert found.outcome == "promoted"
    else:
        rejected(there, "changed", lake.key(), "again")


def test_night_run_again_after_an_overwrite_reads_the_same_bytes(stack: Embedded, tmp_path: Path) -> None:
    """Overwritten after the night was decided, and run again on a machine that remembers nothing: same snapshot, same verdict."""
    lake = Lake.fresh(stack, tmp_path)
    first = lake.night(CHAMPION)
    lake.land(CHAMPION, x=[0.0] * ROWS)
    lake.remove(lake.key(CHAMPION - DAY))
    with unharmed(lake):
        again = lake.elsewhere(tmp_path / "there").night(CHAMPION)
    for fact in ("run_key", "snapshot", "artifact_digest", "checks", "outcome", "champion"):
        assert again.night[fact] == first.night[fact], fact


@pytest.mark.parametrize("versioned", [True, False], ids=["bucket keeps versions", "bucket keeps none"])
def test_pinned_bytes_that_are_gone_are_not_replaced_by_the_newest(
    stack: Embedded, tmp_path: Path, *, versioned: bool
) -> None:
    """A night whose pinned bytes were deleted is rejected, and never reads what lies under the key now."""
    lake = Lake.fresh(stack, tmp_path, versioned=versioned)
    assert lake.night(CHAMPION).outcome == "promoted"
    key = lake.key(CHAMPION - 2 * DAY)
    (pinned,) = lake.source.list(f"s3://{lake.source.bucket}/{key}", versions=True)
    lake.put(key, parquet(table(CHAMPION - 2 * DAY, x=[0.0] * ROWS)))
    if versioned:
        lake.source.client.delete_object(Bucket=lake.source.bucket, Key=key, VersionId=pinned.version)
    there = lake.elsewhere(tmp_path / "there")
    with unharmed(lake):
        ran = there.dry("training.rounds=9", cutoff=CHAMPION)
    assert (ran.outcome, ran.status) == ("rejected", 3), (ran.why, ran.err)
    assert ran.why.startswith("snapshot_gone: " if versioned else "changed: "), ran.why
    assert key in ran.why
    assert "--repin" in ran.why


def test_object_deleted_after_the_night_was_decided(stack: Embedded, tmp_path: Path) -> None:
    """In a bucket that keeps no versions, a deleted object cannot be read again: the snapshot is gone."""
    lake = Lake.fresh(stack, tmp_path, versioned=False)
    assert lake.night(CHAMPION).outcome == "promoted"
    lake.remove(lake.key(CHAMPION))
    with unharmed(lake):
        ran = lake.elsewhere(tmp_path / "there").dry("training.rounds=9", cutoff=CHAMPION)
    assert (ran.outcome, ran.status) == ("rejected", 3), (ran.why, ran.err)
    assert ran.why.startswith("snapshot_gone: "), ran.why
    assert lake.key(CHAMPION) in ran.why


# Late or corrected partition.


def test_late_and_corrected_partitions_are_counted_once_with_their_lag(stack: Embedded, tmp_path: Path) -> None:
    """A day that lands late is added with its lag, one that lands again is corrected, one that goes is removed; no row counts twice."""
    lake = Lake.fresh(stack, tmp_path)
    late, corrected, gone = (FIRST + i * DAY for i in (8, 10, 12))
    lake.remove(lake.key(late))
    crowned(lake)
    lake.land(late)
    lake.put(lake.key(corrected), parquet(table(corrected, ROWS - 5)))
    lake.remove(lake.key(gone))
    with unharmed(lake):
        ran = lake.dry()
    record = lake.record(ran)
    difference = record["snapshot"]["difference"]
    assert difference["added"] == sorted([lake.key(late), lake.key()])
    assert difference["corrected"] == [lake.key(corrected)]
    assert difference["removed"] == [lake.key(gone)]
    assert difference["late"] == {lake.key(day): (TONIGHT - day).days for day in (late, corrected)}
    assert record["snapshot"]["rows"] == 19 * ROWS - 5
    account = record["train"]["account"]
    assert account["landed"] == record["snapshot"]["rows"] == sum(n for part, n in account.items() if part != "landed")


# More than 1,000 keys; unfinished multipart uploads; temporary files.


def test_keys_on_a_second_page_unfinished_uploads_and_temporary_files(lake: Lake) -> None:
    """All pages are read: with a thousand keys before tonight's the snapshot is the same; what is unfinished or temporary is no data."""
    expected = lake.dry().night["snapshot"]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: lake.put(f"rows/dt=2001-01-01/part-{n:04d}.parquet", b"old"), range(1003)))
    lake.source.client.create_multipart_upload(Bucket=lake.source.bucket, Key=f"rows/dt={TONIGHT}/more.parquet")
    for name in (
        "_temporary/0/part.parquet",
        ".part.parquet.crc",
        "_part.parquet",
        "part.parquet.tmp",
        ".hidden.parquet",
    ):
        lake.put(f"rows/dt={TONIGHT}/{name}", b"half")
    lake.put(f"rows/dt={TONIGHT}/", b"")
    with unharmed(lake):
        ran = lake.dry()
    assert ran.night["snapshot"] == expected
    assert ran.outcome == "promoted"


# 503, reset in the middle of a body, stall, 403.


def once(fault: str | int) -> Any:
    """Return a fault that hits each object's first read."""
    return lambda method, path, before: (
        fault if method == "GET" and "dt%3D" in path.replace("=", "%3D") and not before else "pass"
    )


def always(fault: str | int, key: str) -> Any:
    """Return a fault that hits each read of one object."""
    word = key.replace("=", "%3D")
    return lambda method, path, _: (
        fault if method == "GET" and word in path.replace("=", "%3D") and "prefix" not in path else "pass"
    )


@pytest.mark.parametrize("fault", [503, 500, 429, "cut", "drop", "flip"])
def test_fault_on_the_wire_that_passes_changes_nothing(
    lake: Lake, proxy: Proxy, tmp_path: Path, fault: str | int
) -> None:
    """Each object's first read fails in some way: the night reads them again, and its snapshot is the same to the byte."""
    expected = lake.dry().night
    proxy.fault = once(fault)
    with unharmed(lake):
        ran = lake.behind(proxy.address, tmp_path / "there").dry()
    assert ran.outcome == "promoted", ran.why
    assert ran.night["snapshot"] == expected["snapshot"]
    assert ran.night["artifact_digest"] == expected["artifact_digest"]


@pytest.mark.parametrize("fault", [503, "cut", "drop"])
def test_fault_on_the_wire_that_stays_fails_the_night_visibly(
    lake: Lake, proxy: Proxy, tmp_path: Path, fault: str | int
) -> None:
    """A server that does not deliver is no fault of the data: the night fails after bounded retries, and names what it was reading."""
    proxy.fault = always(fault, lake.key())
    with unharmed(lake):
        ran = lake.behind(proxy.address, tmp_path / "there").night(TONIGHT)
    assert (ran.outcome, ran.status) == ("failed", 1), ran.why
    assert lake.key() in ran.why
    assert "object store" in ran.why
    assert "Traceback" not in ran.err
    assert 2 <= sum(lake.key().replace("=", "%3D") in path.replace("=", "%3D") for _, path in proxy.seen) < 40


def test_refusal_is_not_asked_again(lake: Lake, proxy: Proxy, tmp_path: Path) -> None:
    """403 is asked once, and the message says who refused what."""
    proxy.fault = always(403, lake.key())
    with unharmed(lake):
        ran = lake.behind(proxy.address, tmp_path / "there").night(TONIGHT)
    assert (ran.outcome, ran.status) == ("failed", 1), ran.why
    assert lake.key() in ran.why
    assert "403" in ran.why
    assert "Traceback" not in ran.err
    word = lake.key().replace("=", "%3D")
    assert sum(word in path.replace("=", "%3D") and "prefix" not in path for _, path in proxy.seen) == 1


def test_bytes_that_are_damaged_each_time_are_corrupt(lake: Lake, proxy: Proxy, tmp_path: Path) -> None:
    """A flipped bit that stays flipped is told by the store's own digest, although nobody has read this object before."""
    proxy.fault = always("flip", lake.key())
    rejected(lake.behind(proxy.address, tmp_path / "there"), "corrupt", lake.key())


# Truncated and corrupt files.


def flipped(data: bytes, at: float) -> bytes:
    """Flip one bit."""
    place = int(len(data) * at)
    return data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :]


@pytest.mark.parametrize("share", [0.01, 0.5, 0.95, 0.999])
def test_truncated_parquet_is_corrupt(lake: Lake, share: float) -> None:
    """A Parquet file that ends early is named, wherever it was cut."""
    data = parquet(table(TONIGHT))
    lake.land(data=data[: int(len(data) * share)])
    rejected(lake, "corrupt", lake.key(), "land it again")


@pytest.mark.parametrize("at", [0.0, 0.2, 0.5, 0.9, 0.97])
def test_flipped_bit_in_parquet_with_checksums_is_corrupt(lake: Lake, at: float) -> None:
    """One bit of a file that carries page checksums: it is told, or the bytes that it sits in mean nothing to a reader."""
    good = table(TONIGHT)
    data = parquet(good, write_page_checksum=True)
    lake.land(data=flipped(data, at))
    with unharmed(lake):
        ran = lake.dry()
    if ran.outcome == "promoted":
        assert pq.read_table(io.BytesIO(flipped(data, at))) == good
    else:
        assert (ran.outcome, ran.status) == ("rejected", 3), (ran.why, ran.err)
        assert ran.why.startswith(("corrupt: ", "schema: ")), ran.why
        assert lake.key() in ran.why


@pytest.mark.parametrize(
    "data",
    [
        b"PAR1",
        b"PAR1PAR1",
        b"not parquet at all",
        b"\x00" * 4096,
        b"PAR1" + b"\xff" * 64 + b"\xff\xff\xff\x7fPAR1",
        csv(table(TONIGHT)),
    ],
    ids=["magic", "magic twice", "text", "zeros", "endless footer", "csv"],
)
def test_what_is_no_parquet_file_is_corrupt(lake: Lake, data: bytes) -> None:
    """Whatever lands under such a name and is none is named."""
    lake.land(data=data)
    rejected(lake, "corrupt", lake.key())


def test_truncated_csv_is_corrupt(broken: Lakes) -> None:
    """A CSV that ends in the middle of a row was cut off: it is named, with the row."""
    lake = broken["csv"]
    whole = csv(table(TONIGHT))
    lake.land(data=whole[: whole.rindex(b"\n", 0, -1) + 20])
    ran = rejected(lake, "corrupt", lake.key())
    assert f"row {ROWS}" in ran.why or f"line {ROWS + 1}" in ran.why, ran.why


def test_csv_truncated_within_quotes_is_corrupt(broken: Lakes) -> None:
    """A quote that is never closed is told, and does not swallow the rest."""
    lake = broken["csv"]
    lake.land(data=csv(table(TONIGHT)).rstrip(b"\n").rpartition(b"\n")[0] + b'\n1,2024-03-24 00:00:00,0.1,0.2,"nor')
    rejected(lake, "corrupt", lake.key())


@pytest.mark.parametrize("form", ["csv", "jsonl"])
@pytest.mark.parametrize("cut", [-1, -4, -20, 12], ids=["last byte", "half its length", "half its end", "head only"])
def test_truncated_gzip_is_corrupt(broken: Lakes, form: str, cut: int) -> None:
    """A gzip file that ends early is named, although what came out of it reads well."""
    lake = broken[form]
    lake.remove(lake.key())
    packed = gzip.compress(lake.good[lake.key()], mtime=0)
    lake.put(lake.key() + ".gz", packed[:cut])
    rejected(lake, "corrupt", lake.key() + ".gz", "gzip")


@pytest.mark.parametrize("at", [0.3, 0.6, 0.99])
def test_flipped_bit_in_gzip_is_corrupt(broken: Lakes, at: float) -> None:
    """Its checksum tells."""
    lake = broken["csv"]
    lake.remove(lake.key())
    lake.put(lake.key() + ".gz", flipped(gzip.compress(lake.good[lake.key()], mtime=0), at))
    rejected(lake, "corrupt", lake.key() + ".gz")


def test_truncated_json_lines_are_corrupt(broken: Lakes) -> None:
    """A JSON Lines file that ends in the middle of an object is named, with the line."""
    lake = broken["jsonl"]
    lake.land(data=lake.good[lake.key()][:-30])
    rejected(lake, "corrupt", lake.key(), str(ROWS))


# 0 bytes, header only, 0 rows.

NOTHING = {
    "parquet": {"0 bytes": b"", "0 rows": parquet(table(TONIGHT).slice(0, 0)), "0 columns": parquet(pa.table({}))},
    "csv": {
        "0 bytes": b"",
        "header only": csv(table(TONIGHT).slice(0, 0)),
        "blank lines": b"\n\n \r\n",
        "BOM only": b"\xef\xbb\xbf",
    },
    "jsonl": {"0 bytes": b"", "blank lines": b"\n\n"},
}


@pytest.mark.parametrize(("form", "what"), [(form, what) for form, cases in NOTHING.items() for what in cases])
def test_file_without_rows_is_empty(broken: Lakes, form: str, what: str) -> None:
    """It is named, and told apart from a broken one."""
    lake = broken[form]
    lake.land(data=NOTHING[form][what])
    rejected(lake, "empty", lake.key())


def test_one_empty_file_beside_a_full_one_is_not_passed_over(lake: Lake) -> None:
    """A writer that left one of its two files empty has not finished."""
    lake.land(part="second", data=parquet(table(TONIGHT).slice(0, 0)))
    rejected(lake, "empty", lake.key(part="second"))


@pytest.mark.parametrize("data", [b"", gzip.compress(b"")], ids=["0 bytes", "0 bytes inside"])
def test_empty_gzip_is_empty(broken: Lakes, data: bytes) -> None:
    """Also where there is nothing but a well-formed envelope."""
    lake = broken["csv"]
    lake.remove(lake.key())
    lake.put(lake.key() + ".gz", data)
    rejected(lake, "empty", lake.key() + ".gz")


# Decompression bombs, huge rows.


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_huge_row_is_too_large(broken: Lakes, form: str) -> None:
    """A row of many megabytes is refused in words, not by running out of memory."""
    lake = broken[form]
    good = table(TONIGHT)
    huge = good.set_column(5, "email", pa.array(["x" * (8 << 20)] + ["a"] * (ROWS - 1)))
    lake.land(
        data={"csv": csv(huge)}.get(form) or "\n".join(json.dumps(r, default=str) for r in huge.to_pylist()).encode()
    )
    rejected(lake, "too_large", lake.key())


def test_few_bytes_of_parquet_that_stand_for_billions_are_too_large(lake: Lake) -> None:
    """Dictionaries and run lengths let a small file hold more than any memory: what it expands to is known before it is read."""
    bomb = expanding(rows=200_000, text=100_000)
    assert len(bomb) < 1 << 20
    lake.land(data=bomb)
    rejected(lake, "too_large", lake.key())


def expanding(rows: int, text: int) -> bytes:
    """Return a small Parquet file in which each row has the same long text."""
    first = table(TONIGHT, email=["x" * text] * ROWS).slice(0, 1)
    same = [
        pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int32()), column.combine_chunks())
        for column in first.columns
    ]
    return parquet(pa.table(same, names=first.column_names), store_schema=False)


# Keys such as `../../x`, `/abs`, control characters.


@pytest.mark.parametrize(
    "below",
    [
        "dt={day}/../../x.parquet",
        "../dt={day}/x.parquet",
        "dt={day}/a\nb.parquet",
        "dt={day}/a\x7f.parquet",
        "/dt={day}/x.parquet",
        "dt={day}/./x.parquet",
        "dt={day}/a\u202eb.parquet",
        "dt={day}/a\x85b.parquet",
    ],
)
def test_hostile_key_is_rejected(lake: Lake, below: str) -> None:
    """A key that could lead a path or a terminal astray is refused, and shown with its odd characters spelled out."""
    key = "rows/" + below.format(day=TONIGHT)
    lake.put(key, parquet(table(TONIGHT)))
    ran = rejected(lake, "bad_key")
    assert all(char.isprintable() or char == "\n" for char in ran.why)
    assert "x.parquet" in ran.why or "a\\" in ran.why


ODD_NAMES = (
    "with space.parquet", "per%20cent.parquet", "it's \"quoted\".parquet", "ünï¢ødé-プロ-🎉.parquet", "a+b&c=d;e?f#g.parquet",
    "CON.parquet", "-rf.parquet", "$HOME`id`.parquet", "back\\slash.parquet", "x" * 200 + ".parquet", "PART.PARQUET",
    "a..b.parquet", "glob*[1]{2}.parquet",
)  # fmt: skip


def test_odd_keys_are_only_names(lake: Lake) -> None:
    """Local names are told by content, so a key may hold what no file name could; the model is the same."""
    expected = lake.dry().night
    for i, name in enumerate(ODD_NAMES):
        day = TONIGHT - i * DAY
        lake.remove(lake.key(day))
        lake.put(f"rows/dt={day}/{name}", lake.good[lake.key(day)])
    with unharmed(lake):
        ran = lake.dry()
    assert ran.outcome == "promoted", (ran.why, ran.err)
    assert ran.night["artifact_digest"] == expected["artifact_digest"]
