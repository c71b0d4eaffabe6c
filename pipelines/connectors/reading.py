"""Reads landing files in a process of its own, so that what goes wrong in one is its failure alone.

What belongs here: archives and compression, the bounds of what one file may take, and the boundary
at which anything else that happens while a file is read becomes the reason of that file. What does
not: what a format means (the connectors), finding files and writing rows (`pipelines.lake`).

A parser that asks for too much memory, in Python or in a library below it, ends its process. So
files are read by others, which answer over a pipe and are started anew where they ended.
"""

import gc
import gzip
import hashlib
import io
import lzma
import os
import pickle
import re
import resource
import signal
import subprocess
import sys
import tempfile
import traceback
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from threading import Timer
from typing import IO

import polars as pl

from pipelines.connectors import FORMATS, connector
from pipelines.connectors.common import (
    LEFT_OUT_REASON,
    REJECT_REASON,
    Context,
    Tables,
    UnreadableFile,
)

MAX_FILE_BYTES = 2 * 1024**3
"""Of a file as it lies in landing, and of what is in it once unpacked."""
MAX_COMPRESSION_RATIO = 500
"""Telemetry text shrinks by 20 to 100; what grows more when unpacked is not a measurement."""
MAX_MEMORY_BYTES = 4 * 1024**3
"""Of a process that reads, at any moment."""
MAX_READING_S = 900.0

Columns = Mapping[str, Mapping[str, pl.DataType]]
"""Raw table -> its columns with their types, as far as a connector fills them."""

Part = tuple[str | None, Tables]
"""Rows of a file, or of a member of an archive under its name; of a large one, some of its rows."""

_Packed = tuple[str | None, dict[str, bytes]]
"""The same as it goes from one process to the other."""


class FaultyReading(UnreadableFile):
    """A file whose reading ended in a way no connector foresees; `trace` says where."""

    def __init__(self, reason: str, trace: str) -> None:
        super().__init__(reason, trace)
        self.trace = trace

    def __str__(self) -> str:
        return str(self.args[0])


class Reader:
    """The process that reads; it starts with the first file, and ends with the `with`."""

    def __init__(self, context: Context, columns: Columns) -> None:
        self._settings = context, columns
        self._process: subprocess.Popen[bytes] | None = None
        self._is_asked = False
        # What a library says before it ends its process, and no one else has to see.
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the reader

    def __enter__(self) -> "Reader":
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()
        self._said.close()

    def read(self, path: Path, source_file: str, sha256: str) -> Iterator[Part]:
        """The rows of one file, typed as in their raw tables, and why some are not kept.

        It is read from now on, and one part is ahead of what is taken. Columns in which nothing
        stands are left out.

        `source_file` is its path below landing, whose first folder names the connector.

        Raises:
            UnreadableFile: with any part, it cannot be read as a whole, for whatever reason.
        """
        if self._is_asked:
            # Not all of the file before was taken.
            self._stop()
        process = self._process or self._start()
        assert process.stdin is not None
        self._is_asked = True
        # If the process has ended, that is told in place of its answer.
        with suppress(BrokenPipeError):
            pickle.dump((path, source_file, sha256), process.stdin)
            process.stdin.flush()
        return self._parts(process)

    def _parts(self, process: subprocess.Popen[bytes]) -> Iterator[Part]:
        while (answer := self._answer(process)) is not None:
            if isinstance(answer, UnreadableFile):
                self._is_asked = False
                raise answer
            member, tables = answer
            yield member, {table: pl.read_ipc_stream(frame) for table, frame in tables.items()}
        self._is_asked = False

    def _answer(self, process: subprocess.Popen[bytes]) -> _Packed | UnreadableFile | None:
        """The next part, None after the last, or why there is none."""
        assert process.stdout is not None
        is_late = []

        def end() -> None:
            is_late.append(True)
            process.kill()

        timer = Timer(MAX_READING_S, end)
        timer.start()
        try:
            answer: _Packed | UnreadableFile | None = pickle.load(process.stdout)
        except (EOFError, pickle.UnpicklingError):
            self._is_asked = False
            self._stop()
            return self._ended(process.returncode, bool(is_late))
        finally:
            timer.cancel()
        return answer

    def _start(self) -> subprocess.Popen[bytes]:
        self._said.seek(0)
        self._said.truncate()
        process = subprocess.Popen(
            [sys.executable, "-P", "-c", f"from {__name__} import serve; serve()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        )
        assert process.stdin is not None
        pickle.dump(self._settings, process.stdin)
        self._process = process
        return process

    def _stop(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None
        assert process.stdout is not None
        if self._is_asked:
            process.kill()
            self._is_asked = False
        with suppress(BrokenPipeError):
            process.stdin.close()
        process.stdout.close()
        process.wait()

    def _ended(self, status: int, is_late: bool) -> FaultyReading:
        self._said.seek(0)
        trace = self._said.read().decode(errors="replace")
        if is_late:
            return FaultyReading(
                f"reading it took more than {MAX_READING_S:g} s, expected less: split the file",
                trace,
            )
        if "memory allocation" in trace or status == -signal.SIGKILL:
            return FaultyReading(_TOO_MUCH_MEMORY, trace)
        how = signal.Signals(-status).name if status < 0 else f"exit status {status}"
        return FaultyReading(f"reading it ended with {how}: {_FAULT}", trace)


_TOO_MUCH_MEMORY = (
    f"reading it needs more than {MAX_MEMORY_BYTES >> 30} GiB of memory, expected less:"
    " split the file"
)
_FAULT = "correct the file, or report it with its trace in lake/failed.log"


def not_readable(error: OSError) -> str:
    """Why the system gave nothing of a file or folder, in words."""
    if isinstance(error, FileNotFoundError):
        return "it was there, and vanished before it was read"
    return f"it cannot be read ({error.strerror}), expected leave to read it"


def read_parts(path: Path, source_file: str, sha256: str, context: Context) -> Iterator[Part]:
    """The rows of a file and of its members, as their connector gives them.

    Raises:
        UnreadableFile: no connector reads such files, or not this one.
    """
    format_name, _, name = source_file.partition("/")
    if format_name not in FORMATS:
        raise UnreadableFile(
            f"found landing folder {format_name!r}, expected one of {', '.join(FORMATS)}:"
            " move the file"
        )
    parse = connector(format_name)
    for member, content in _unpack(path, source_file, sha256):
        file_name = f"{name}/{member}" if member else name.removesuffix(".gz")
        for tables in parse(content, file_name=file_name, context=context):
            yield member, tables


def file_sha256(content: io.BufferedReader | io.BytesIO, source_file: str) -> str:
    """What a file is known by: its bytes, wherever it lies and whatever it is called.

    A listing of all events says something else at another time and of another program, though it
    may be the same bytes, so its path below landing is part of it.
    """
    digest = hashlib.file_digest(content, "sha256")
    if re.match(r"openadr/(.+/)?full/", source_file):
        digest.update(source_file.encode())
    return digest.hexdigest()


def _unpack(path: Path, source_file: str, sha256: str) -> Iterator[tuple[str | None, bytes]]:
    """(member name or None, bytes) of a file or of the members of an archive.

    Raises:
        UnreadableFile: It is too large, broken, encrypted, or a member lies outside.
    """
    try:
        file_bytes = path.stat().st_size
        if file_bytes > MAX_FILE_BYTES:
            raise UnreadableFile(
                f"found {file_bytes} bytes, expected at most {MAX_FILE_BYTES}: split the file"
            )
        content = path.read_bytes()
    except OSError as error:
        raise UnreadableFile(f"{not_readable(error)}: load again") from error
    if file_sha256(io.BytesIO(content), source_file) != sha256:
        raise UnreadableFile("the file changed while it was read: load again when it is complete")
    if not content:
        raise UnreadableFile("found 0 bytes, expected a file with content: send it again")
    limit = min(MAX_FILE_BYTES, max(len(content), 1024) * MAX_COMPRESSION_RATIO)
    if content.startswith(b"\x1f\x8b"):
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as stream:
            yield None, _read_limited(stream, limit)
    elif content.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        try:
            archive = zipfile.ZipFile(io.BytesIO(content))
        except (zipfile.BadZipFile, NotImplementedError, OSError, ValueError) as error:
            raise UnreadableFile(f"found a broken zip archive ({error}): send it again") from error
        with archive:
            members = [member for member in archive.infolist() if not member.is_dir()]
            if not members:
                raise UnreadableFile("found an empty archive, expected files in it: send it again")
            for member in sorted(members, key=lambda info: info.filename):
                if member.filename.startswith("/") or ".." in Path(member.filename).parts:
                    raise UnreadableFile(
                        f"found archive member {member.filename!r}, expected a name inside the"
                        " archive: pack it again"
                    )
                try:
                    with archive.open(member) as stream:
                        unpacked = _read_limited(stream, limit)
                except (RuntimeError, NotImplementedError, zipfile.BadZipFile) as error:
                    raise UnreadableFile(
                        f"archive member {member.filename!r} cannot be unpacked ({error}):"
                        " pack it again without encryption"
                    ) from error
                limit -= len(unpacked)
                yield member.filename, unpacked
    else:
        yield None, content


def _read_limited(stream: IO[bytes] | gzip.GzipFile, limit: int) -> bytes:
    """All of a stream, as far as it stays within the limit; never more than that is held."""
    content = io.BytesIO()
    try:
        while part := stream.read(1 << 20):
            content.write(part)
            if content.tell() > limit:
                break
    except (EOFError, OSError, zipfile.BadZipFile, zlib.error, lzma.LZMAError) as error:
        raise UnreadableFile(f"found broken compression ({error}): send the file again") from error
    if content.tell() > limit:
        raise UnreadableFile(
            f"found more than {limit} bytes when unpacked, expected fewer: split the file"
        )
    return content.getvalue()


def _typed(tables: Tables, columns: Columns) -> Tables:
    """The frames with the types of their raw tables, without columns in which nothing stands."""
    reasons = dict.fromkeys((REJECT_REASON, LEFT_OUT_REASON), pl.String())
    return {
        table: _told(
            frame.select(
                pl.col(name).cast(kind)
                for name, kind in {**columns[table], **reasons}.items()
                if name in frame.columns
            )
        )
        for table, frame in tables.items()
    }


def _told(frame: pl.DataFrame) -> pl.DataFrame:
    """The columns in which something stands, at least one, as it keeps the count of rows."""
    first, *others = frame.get_columns()
    return pl.DataFrame([first, *(column for column in others if column.null_count() < len(frame))])


def _packed(tables: Tables) -> dict[str, bytes]:
    # Compressed, since copies of large frames cost more than making them small.
    packed = {}
    for table, frame in tables.items():
        stream = io.BytesIO()
        frame.write_ipc_stream(stream, compression="lz4")
        packed[table] = stream.getvalue()
    return packed


def _answers(
    path: Path, source_file: str, sha256: str, context: Context, columns: Columns
) -> Iterator[_Packed | UnreadableFile | None]:
    """What reading a file came to: its rows, and None, or why it has none."""
    # The one place where every exception is caught: nothing in a file may stop the loading of
    # another, and what no connector foresees is told with its trace.
    try:
        for member, tables in read_parts(path, source_file, sha256, context):
            yield member, _packed(_typed(tables, columns))
        yield None
    except UnreadableFile as error:
        yield UnreadableFile(str(error))
    except MemoryError:
        yield FaultyReading(_TOO_MUCH_MEMORY, traceback.format_exc())
    except pl.exceptions.PolarsError as error:
        format_name = source_file.partition("/")[0]
        reason = (
            f"found values that do not fit ({_first_line(error)}), expected a {format_name} file:"
            " correct the file or move it to its format's folder"
        )
        yield FaultyReading(reason, traceback.format_exc())
    except (Exception, pl.exceptions.PanicException) as error:
        reason = f"reading it ended with {type(error).__name__} ({_first_line(error)}): {_FAULT}"
        yield FaultyReading(reason, traceback.format_exc())


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or ["no more is known"])[0][:200]


def serve() -> None:
    """In the process that reads: answer one request after another, until there are no more."""
    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    limit = MAX_MEMORY_BYTES if most == resource.RLIM_INFINITY else min(MAX_MEMORY_BYTES, most)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, most))
    # Where the machine's memory ends before, it is this process that gives way.
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
    # What is made while a file is read is mostly rows: to look for garbage among them takes long.
    gc.set_threshold(1_000_000)
    # Whatever a library prints is no answer.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    context, columns = pickle.load(sys.stdin.buffer)
    while True:
        try:
            path, source_file, sha256 = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        for answer in _answers(path, source_file, sha256, context, columns):
            answers.write(pickle.dumps(answer))
            answers.flush()
