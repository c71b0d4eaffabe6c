"""Files of landing as bytes: limits, members of archives, and where each row came from."""

import hashlib
import io
import zipfile
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pipelines.connectors.common import Context, UnreadableFile
from pipelines.lake import landing

HEADER = "timestamp,battery_id,state_of_charge_pct,power_kw,state\n"
ROW = "2026-04-05T23:45:00Z,sparks-second-life,50,-10,charging\n"


def landed(file: Path, content: bytes) -> landing.LandedFile:
    file.write_bytes(content)
    return landing.LandedFile(
        path=file,
        source_file=f"battery_csv/{file.name}",
        format="battery_csv",
        sha256=hashlib.sha256(content).hexdigest(),
        file_bytes=len(content),
        known_at=datetime(2026, 4, 6, 3, tzinfo=UTC),
    )


def zipped(**members: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.csv", content)
    return buffer.getvalue()


def read(file: landing.LandedFile) -> list[tuple[str, str, int]]:
    """(table, source file, source row) of each row."""
    return [
        (table, source_file, source_row)
        for table, frame in landing.read_file(file, Context(cluster_time_zones={}))
        for source_file, source_row in frame.select("source_file", "source_row").iter_rows()
    ]


def test_rows_are_numbered_on_across_the_members_of_an_archive(tmp_path):
    content = zipped(b=HEADER + ROW, a=HEADER + ROW + ROW)
    assert read(landed(tmp_path / "days.zip", content)) == [
        ("battery_samples", "battery_csv/days.zip!a.csv", 0),
        ("battery_samples", "battery_csv/days.zip!a.csv", 1),
        ("battery_samples", "battery_csv/days.zip!b.csv", 2),
    ]


def test_an_archive_whose_members_are_too_large_together_is_refused(tmp_path):
    # Each member is within what the archive's kilobyte may grow to, both are not.
    content = HEADER + 3 * ROW.replace("sparks", "0" * 100_000)
    file = landed(tmp_path / "bomb.zip", zipped(a=content, b=content))
    assert len(content) < 500 * 1024 < 2 * len(content)
    assert file.file_bytes < 1024 + 512
    with pytest.raises(UnreadableFile) as refused:
        read(file)
    left = 500 * max(1024, file.file_bytes) - len(content)
    assert str(refused.value) == (
        f"found more than {left} bytes when unpacked, expected fewer: split the file"
    )


def test_an_encrypted_archive_is_refused(tmp_path):
    content = bytearray(zipped(a=HEADER + ROW))
    # Bit 0 of the flags of a member, where it begins and in the directory at the end.
    content[6] |= 1
    content[content.index(b"PK\x01\x02") + 8] |= 1
    with pytest.raises(UnreadableFile) as refused:
        read(landed(tmp_path / "secret.zip", bytes(content)))
    # What stands between is Python's, and differs from one of its versions to the next.
    assert str(refused.value).startswith("archive member 'a.csv' cannot be unpacked (File ")
    assert str(refused.value).endswith(
        "is encrypted, password required for extraction): pack it again without encryption"
    )


def test_a_file_that_is_too_large_is_refused_unread(tmp_path, monkeypatch):
    monkeypatch.setattr(landing, "MAX_FILE_BYTES", len(HEADER + ROW))
    assert read(landed(tmp_path / "fits.csv", (HEADER + ROW).encode())) == [
        ("battery_samples", "battery_csv/fits.csv", 0)
    ]
    file = landed(tmp_path / "large.csv", (HEADER + ROW + "\n").encode())
    file.path.unlink()
    with pytest.raises(UnreadableFile) as refused:
        read(file)
    assert str(refused.value) == (
        f"found {len(HEADER + ROW) + 1} bytes, expected at most {len(HEADER + ROW)}: split the file"
    )


def test_a_file_that_changed_while_it_was_read_is_refused(tmp_path):
    file = landed(tmp_path / "growing.csv", (HEADER + ROW).encode())
    file.path.write_text(HEADER + ROW + ROW)
    with pytest.raises(UnreadableFile) as refused:
        read(file)
    assert str(refused.value) == (
        "the file changed while it was read: load again when it is complete"
    )
