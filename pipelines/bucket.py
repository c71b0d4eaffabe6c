"""A lake in a bucket of object storage instead of a folder.

What belongs here: the place that `WATTBOOK_LAKE` names, how DuckDB reads it, and saying why it is
not to be had. What does not: writing and listing files (`pipelines/lake/files.py`), which asks a
place whether it is a `Path`.

Which storage and with which credentials is known from AWS's own environment variables, to s3fs and
Polars alike.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.errors import BookError

if TYPE_CHECKING:
    import duckdb
    from upath import UPath

    Place = Path | UPath
    """A folder or file of the lake: a `Path` of this machine, or below `s3://`."""
else:
    # What reads a bucket takes longer to import than most commands take.
    Place = Path

LAKE_VARIABLE = "WATTBOOK_LAKE"
ENDPOINT_VARIABLE = "AWS_ENDPOINT_URL"
KEY_VARIABLES = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"


@cache
def place(url: str) -> "UPath":
    """The folder below `s3://` that a URL names.

    Raises:
        BookError: it names none, or s3fs is not installed.
    """
    if not re.fullmatch(r"s3://[^/@:?#]+(/[^?#]*)?", url):
        raise BookError(
            [f"{LAKE_VARIABLE}: found {_without_secret(url)!r}, expected s3://bucket/prefix"]
        )
    if find_spec("s3fs") is None:
        raise BookError([f"{LAKE_VARIABLE}={url}: found no s3fs here: pip install 'wattbook[s3]'"])
    if region := os.environ.get("AWS_REGION"):
        # The one name of the two that botocore knows.
        os.environ.setdefault("AWS_DEFAULT_REGION", region)
    from upath import UPath

    # Polars and other processes write without its knowing.
    return UPath(url.rstrip("/"), use_listings_cache=False)


def show(connection: "duckdb.DuckDBPyConnection", lake: Place) -> None:
    """Let a connection of DuckDB's read the lake.

    What is listed once stays so for it: the lake does not change while it is read.
    """
    if not isinstance(lake, Path):
        from fsspec import filesystem

        connection.register_filesystem(
            filesystem("s3", skip_instance_cache=True, default_cache_type="none")
        )


@contextmanager
def reached(lake: Place) -> Iterator[None]:
    """Say in a sentence why the object storage is not to be had, at once or in between.

    Raises:
        BookError: it does not answer, has no such bucket or refuses the credentials.
    """
    if isinstance(lake, Path):
        yield
        return
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        bucket, _, prefix = lake.path.partition("/")
        lake.fs.call_s3("list_objects_v2", Bucket=bucket, Prefix=prefix, MaxKeys=1)
        yield
    except BotoCoreError as error:
        raise BookError([_unreached(lake, error)]) from error
    except OSError as error:
        # Others are of files on this machine.
        if not isinstance(error.__cause__, ClientError):
            raise
        raise BookError([_unreached(lake, error)]) from error


def _unreached(lake: "UPath", error: Exception) -> str:
    from botocore.exceptions import NoCredentialsError, PartialCredentialsError

    found = _without_secret(" ".join(str(error).split()))
    if isinstance(error, NoCredentialsError | PartialCredentialsError):
        what = f"found no credentials ({found}): set {KEY_VARIABLES}"
    elif isinstance(error, PermissionError):
        what = (
            f"the object storage refuses ({found}): set {KEY_VARIABLES} to credentials that may"
            " list, read, write and delete there"
        )
    elif "NoSuchBucket" in str(error.__cause__):
        what = f"found no such bucket ({found}): make it, or set the variable to the one there is"
    elif isinstance(error, OSError):
        what = f"the object storage gave up ({found}): run it again; what was written before stays"
    else:
        what = (
            f"no object storage answers ({found}): start it, or set {ENDPOINT_VARIABLE} to where it"
            " is; what was written before stays"
        )
    return f"{LAKE_VARIABLE}={lake}: {what}"


def _without_secret(text: str) -> str:
    """The text without the names and passwords that URLs in it may carry."""
    return re.sub(r"//[^/\s]*@", "//…@", text)
