"""Files of landing as bytes: limits, members of archives, and that nothing in one stops another."""

import gzip
import hashlib
import io
import os
import signal
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.connectors import reading
from pipelines.connectors.common import Context, UnreadableFile
from pipelines.connectors.reading import FaultyReading, Reader
from pipelines.lake.schemas import columns_to_fill

HEADER = "timestamp,battery_id,state_of_charge_pct,power_kw,state\n"
ROW = "2026-04-05T23:45:00Z,sparks-second-life,50,-10,charging\n"
CONTEXT = Context(cluster_time_zones={})


def zipped(**members: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.csv", content)
    return buffer.getvalue()


def read(path: Path, content: bytes) -> list[tuple[str | None, str, int]]:
    """(member, table, count of rows) of a battery file, read in this process."""
    path.write_bytes(content)
    sha256 = hashlib.sha256(content).hexdigest()
    return [
        (member, table, len(frame))
        for member, tables in reading.read_parts(path, "battery_csv/a.csv", sha256, CONTEXT)
        for table, frame in tables.items()
    ]


def refusal(path: Path, content: bytes) -> str:
    with pytest.raises(UnreadableFile) as refused:
        read(path, content)
    return str(refused.value)


def test_members_of_an_archive_are_read_in_the_order_of_their_names(tmp_path):
    assert read(tmp_path / "days.zip", zipped(b=HEADER + ROW, a=HEADER + ROW + ROW)) == [
        ("a.csv", "battery_samples", 2),
        ("b.csv", "battery_samples", 1),
    ]


def test_an_archive_whose_members_are_too_large_together_is_refused(tmp_path):
    # Each member is within what the archive's kilobyte may grow to, both are not.
    content = HEADER + 3 * ROW.replace("sparks", "0" * 100_000)
    archive = zipped(a=content, b=content)
    assert len(content) < 500 * 1024 < 2 * len(content)
    assert len(archive) < 1024 + 512
    left = 500 * max(1024, len(archive)) - len(content)
    assert refusal(tmp_path / "bomb.zip", archive) == (
        f"found more than {left} bytes when unpacked, expected fewer: split the file"
    )


def test_an_encrypted_archive_is_refused(tmp_path):
    content = bytearray(zipped(a=HEADER + ROW))
    # Bit 0 of the flags of a member, where it begins and in the directory at the end.
    content[6] |= 1
    content[content.index(b"PK\x01\x02") + 8] |= 1
    reason = refusal(tmp_path / "secret.zip", bytes(content))
    # What stands between is Python's, and differs from one of its versions to the next.
    assert reason.startswith("archive member 'a.csv' cannot be unpacked (File ")
    assert reason.endswith(
        "is encrypted, password required for extraction): pack it again without encryption"
    )


def test_a_file_that_is_too_large_is_refused_unread(tmp_path, monkeypatch):
    size = len(HEADER + ROW)
    monkeypatch.setattr(reading, "MAX_FILE_BYTES", size)
    assert read(tmp_path / "fits.csv", (HEADER + ROW).encode()) == [(None, "battery_samples", 1)]
    assert refusal(tmp_path / "large.csv", (HEADER + ROW + "\n").encode()) == (
        f"found {size + 1} bytes, expected at most {size}: split the file"
    )


def test_a_file_that_changed_while_it_was_read_is_refused(tmp_path):
    path = tmp_path / "growing.csv"
    path.write_text(HEADER + ROW)
    with pytest.raises(UnreadableFile) as refused:
        list(reading.read_parts(path, "battery_csv/a.csv", "0" * 64, CONTEXT))
    assert str(refused.value) == (
        "the file changed while it was read: load again when it is complete"
    )


def test_a_file_that_vanished_says_so(tmp_path):
    with pytest.raises(UnreadableFile) as refused:
        list(reading.read_parts(tmp_path / "gone.csv", "battery_csv/gone.csv", "", CONTEXT))
    assert str(refused.value) == "it was there, and vanished before it was read: load again"


@pytest.fixture
def reader() -> Iterator[Reader]:
    with Reader(CONTEXT, columns_to_fill()) as opened:
        yield opened


def read_by(reader: Reader, path: Path, content: bytes, format_name: str) -> list[str | None]:
    """Members of a file that the reader's process reads."""
    path.write_bytes(content)
    source_file = f"{format_name}/{path.name}"
    answer = reader.read(path, source_file, hashlib.sha256(content).hexdigest())
    return [member for member, _ in answer]


def test_rows_come_back_with_the_types_of_their_raw_table_less_what_is_empty(reader, tmp_path):
    (tmp_path / "a.csv").write_text(HEADER + ROW)
    sha256 = hashlib.sha256((HEADER + ROW).encode()).hexdigest()
    [(member, tables)] = reader.read(tmp_path / "a.csv", "battery_csv/a.csv", sha256)
    columns = columns_to_fill()["battery_samples"]
    assert member is None
    told = ("battery_id", "sampled_at", "state_of_charge_ratio", "power_kw", "state")
    assert tables["battery_samples"].schema == {name: columns[name] for name in told}


# A parser is a reader's own code, so that these stand in for what it may come to.
ENDINGS = {
    "an exception": ("raise IndexError('list index out of range')", "IndexError (list index out"),
    "too many calls": ("read(content, **known)", "RecursionError (maximum recursion depth"),
    "a crash": ("import os; os.abort()", "reading it ended with SIGABRT"),
    "an exit": ("import os; os._exit(3)", "reading it ended with exit status 3"),
    "much memory in Python": ("bytearray(8 << 30)", "more than 4 GiB of memory"),
    "much memory below Python": (
        "import polars as pl; pl.select(pl.int_range(0, 1 << 30))",
        "more than 4 GiB of memory",
    ),
    "no end": ("import time; time.sleep(60)", "reading it took more than 2 s"),
    "what it prints": ("print('x' * 100_000); raise ValueError('no more')", "ValueError (no more)"),
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_whatever_happens_while_a_file_is_read_is_told_and_the_next_is_read(
    tmp_path, monkeypatch, ending
):
    code, told = ENDINGS[ending]
    package = tmp_path / "pipelines"
    # The process that reads finds this connector in place of the real one.
    (package / "connectors").mkdir(parents=True)
    real = Path(reading.__file__).parents[1]
    for name in ("__init__.py", "connectors/__init__.py", "connectors/common.py"):
        (package / name).write_text((real / name).read_text())
    for name in ("reading.py", "parsing.py", "mappings.py", "battery_csv.py"):
        (package / "connectors" / name).write_text((real / "connectors" / name).read_text())
    (package / "connectors" / "nem12.py").write_text(
        f"def read(content, **known):\n    {code}\n    return {{}}\n"
    )
    monkeypatch.setattr(reading, "__file__", str(package / "connectors" / "reading.py"))
    monkeypatch.setattr(reading, "MAX_READING_S", 2.0 if ending == "no end" else 60.0)
    with Reader(CONTEXT, columns_to_fill()) as reader:
        with pytest.raises(FaultyReading) as fault:
            read_by(reader, tmp_path / "bad.csv", b"x", "nem12")
        assert told in str(fault.value)
        assert read_by(reader, tmp_path / "good.csv", (HEADER + ROW).encode(), "battery_csv")


def test_three_megabytes_that_unpack_to_gigabytes_are_refused(reader, tmp_path):
    # Streams of 64 MiB of zeros, one after the other.
    zeros = gzip.compress(bytes(1 << 26)) * 48
    assert 3_000_000 < len(zeros) < 3_200_000
    with pytest.raises(UnreadableFile) as refused:
        read_by(reader, tmp_path / "zeros.csv.gz", zeros, "battery_csv")
    assert "bytes when unpacked, expected fewer: split the file" in str(refused.value)


def test_a_file_of_which_not_all_was_taken_leaves_nothing_to_the_next(reader, tmp_path):
    days = tmp_path / "days.zip"
    days.write_bytes(zipped(a=HEADER + ROW, b=HEADER + ROW))
    sha256 = hashlib.sha256(days.read_bytes()).hexdigest()
    assert next(reader.read(days, "battery_csv/days.zip", sha256))[0] == "a.csv"
    assert read_by(reader, tmp_path / "c.csv", (HEADER + ROW).encode(), "battery_csv") == [None]


def test_the_process_that_reads_ends_with_the_reader(tmp_path):
    with Reader(CONTEXT, columns_to_fill()) as reader:
        assert reader._process is None
        read_by(reader, tmp_path / "good.csv", (HEADER + ROW).encode(), "battery_csv")
        assert reader._process is not None
        process = reader._process.pid
        os.kill(process, 0)
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)


def test_a_reader_that_was_killed_fails_one_file(reader, tmp_path):
    read_by(reader, tmp_path / "a.csv", (HEADER + ROW).encode(), "battery_csv")
    assert reader._process is not None
    os.kill(reader._process.pid, signal.SIGKILL)
    time.sleep(0.1)
    with pytest.raises(FaultyReading) as fault:
        read_by(reader, tmp_path / "b.csv", (HEADER + ROW).encode(), "battery_csv")
    assert "more than 4 GiB of memory" in str(fault.value)
    assert read_by(reader, tmp_path / "c.csv", (HEADER + ROW).encode(), "battery_csv") == [None]
