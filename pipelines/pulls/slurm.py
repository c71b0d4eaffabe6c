"""Pulls the accounting of Slurm by running `sacct`, here or on a login host.

What belongs here: the command, and waiting for it. What does not: reading what it prints
(`pipelines/connectors/sacct.py`).

It prints UTC with its offset, so that no hour of a change of clocks is told twice. A window has all
jobs that were there in it, whatever their state: those that ended, with their end, and those that
still run. Steps stay in, for sacct takes the energy of a job from them.
"""

import os
import shlex
import subprocess
import tempfile
import time
from datetime import timedelta
from functools import partial
from typing import IO

from pipelines.connectors.sacct import FIELDS
from pipelines.pulls.desk import Desk, PullError, TooLargeError, Window
from pipelines.reference.sources import SlurmSource

FOLDER = "sacct"
FORM = "%Y-%m-%dT%H:%M:%S"
LOOK_S = 0.5
SHOWN_CHARACTERS = 200


def pull(source: SlurmSource, desk: Desk) -> None:
    """Land what is new, a day a file, in `sacct/<source>/`.

    Raises:
        PullError: sacct or ssh is not there, or fails.
    """
    overlap = timedelta(days=source.overlap_days)
    for number, window in enumerate(desk.windows("jobs", source.first_day, overlap=overlap)):
        if number:
            time.sleep(60 / source.requests_per_minute)
        name = f"{FOLDER}/{source.name}/{window.name}.txt"
        desk.land(name, partial(_run, command(source, window), desk))


def command(source: SlurmSource, window: Window) -> list[str]:
    """What lists the jobs of a window; by ssh where the source has a host."""
    listing = [
        *("env", "TZ=UTC", f"SLURM_TIME_FORMAT={FORM}%z"),
        *("sacct", "--allusers", "--duplicates", "--parsable2"),
        f"--starttime={window.start.strftime(FORM)}",
        f"--endtime={window.end.strftime(FORM)}",
        f"--format={','.join(FIELDS)}",
    ]
    if source.host is None:
        return listing
    ssh = ["ssh", "-o", "BatchMode=yes", "-o", "ConnectTimeout=30", "--", source.host]
    return [*ssh, shlex.join(listing)]


def _run(told: list[str], desk: Desk, into: IO[bytes]) -> None:
    limits = desk.limits
    what = "sacct" if told[0] == "env" else f"sacct by ssh on {told[-2]}"
    with tempfile.TemporaryFile() as errors:
        with subprocess.Popen(
            told, stdin=subprocess.DEVNULL, stdout=into, stderr=errors
        ) as process:
            until = time.monotonic() + limits.answer_s
            while True:
                try:
                    status = process.wait(LOOK_S)
                    break
                except subprocess.TimeoutExpired:
                    is_late = time.monotonic() > until
                    if is_late or os.fstat(into.fileno()).st_size > limits.answer_bytes:
                        process.kill()
                        limit = (
                            f"{limits.answer_s:g} s" if is_late else f"{limits.answer_bytes} bytes"
                        )
                        raise PullError(
                            [f"{what}: did not end within {limit}: pull again later"]
                        ) from None
        errors.seek(0)
        said = " ".join(errors.read(2**16).decode(errors="replace").split())[:SHOWN_CHARACTERS]
    if status != 0:
        raise PullError([f"{what}: ended with status {status}: {said or 'no reason given'}"])
    if into.seek(0, 2) > limits.answer_bytes:
        raise TooLargeError([f"{what}: found above {limits.answer_bytes} bytes, expected less"])
    into.seek(0)
    first = into.readline(2**16).rstrip(b"\r\n")
    if first != "|".join(FIELDS).encode():
        raise PullError(
            [f"{what}: found {first[:80]!r} in the first line, expected the names of the fields"]
        )
    into.seek(-1, 2)
    if into.read(1) != b"\n":
        raise PullError([f"{what}: found a line that is cut off: pull again"])
