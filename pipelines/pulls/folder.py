"""Copies what others drop in a folder or bucket, once, and leaves it there.

What belongs here: which files are new there, and copying them. What does not: what they are.

A file is new where its size or time is not what it was when it was copied. One that was written to
less than a minute ago waits for the next pull.
"""

import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import IO, Any

from pipelines.connectors import FORMATS
from pipelines.pulls.desk import Desk, PullError, TooLargeError
from pipelines.reference.sources import FolderSource

SETTLED = timedelta(minutes=1)


def pull(source: FolderSource, desk: Desk) -> None:
    """Copy what is new into `<format>/<source>/`, with the folders it lies in.

    Raises:
        PullError: the folder cannot be read, or the format is none.
    """
    if source.format not in FORMATS:
        raise PullError([f"found the format {source.format}, expected one of {', '.join(FORMATS)}"])
    if source.url.startswith("s3://"):
        if find_spec("s3fs") is None:
            raise PullError([f"{source.url}: found no s3fs here: pip install 'wattbook[s3]'"])
        from botocore.exceptions import BotoCoreError

        try:
            _copy_new(source, desk)
        except BotoCoreError as error:
            raise PullError(
                [f"{source.url}: the object storage does not answer ({error})"]
            ) from error
    else:
        _copy_new(source, desk)


def _copy_new(source: FolderSource, desk: Desk) -> None:
    from upath import UPath

    # What was listed by an earlier pull of this process is not what is there now.
    fresh: dict[str, Any] = {"use_listings_cache": False, "skip_instance_cache": True}
    root = UPath(source.url, **fresh) if source.url.startswith("s3://") else UPath(source.url)
    if not root.is_dir():
        raise PullError([f"{source.url}: not found, expected a folder: check url"])
    for file in sorted(root.rglob("*")):
        name = PurePosixPath(file.path).relative_to(PurePosixPath(root.path))
        is_wanted = name.match(source.pattern) and ".." not in name.parts
        if not is_wanted or not file.is_file() or not _is_within(file, root):
            continue
        status = file.stat()
        changed_at = datetime.fromtimestamp(status.st_mtime, tz=UTC)
        mark = f"{status.st_size} bytes of {changed_at.isoformat()}"
        if desk.copied(str(name)) == mark or desk.now - changed_at < SETTLED:
            continue
        if status.st_size > desk.limits.answer_bytes:
            raise TooLargeError([f"{file}: found {status.st_size} bytes, expected fewer"])
        desk.progress(f"{source.name}: {name}")
        desk.land(f"{source.format}/{source.name}/{name}", _copy(file, status.st_size))
        desk.note_copied(str(name), mark)


def _is_within(file: Any, root: Any) -> bool:
    """Whether a link in a folder of this machine leads to a file of the same folder."""
    return not isinstance(root, Path) or file.resolve().is_relative_to(root.resolve())


def _copy(file: Any, size: int) -> Callable[[IO[bytes]], None]:
    def fill(into: IO[bytes]) -> None:
        with file.open("rb") as content:
            shutil.copyfileobj(content, into)
        if into.tell() != size:
            raise PullError([f"{file}: changed while it was copied: pull again"])

    return fill
