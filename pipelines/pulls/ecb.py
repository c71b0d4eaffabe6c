"""Pulls reference rates of the European Central Bank against the euro.

What belongs here: the requests. What does not: reading the answers (`pipelines/connectors/ecb.py`).

From its documentation (data.ecb.europa.eu/help/api): the dataflow EXR has a series for each
currency, `D.USD.EUR.SP00.A`, and gives it as CSV for a span of days, both included. As others have
seen it answer: status 200 with nothing where no rate is of those days, as on a weekend.
"""

import csv
from datetime import timedelta
from functools import partial
from typing import IO

from pipelines.pulls.desk import Desk
from pipelines.pulls.web import EmptyError, Web, last_bytes
from pipelines.reference.sources import EcbSource

FOLDER = "ecb"
PAST = timedelta(days=30)


def pull(source: EcbSource, desk: Desk) -> None:
    """Land what is new, a currency's day or 30 past days a file, in `ecb/<source>/<currency>/`.

    Raises:
        PullError: it does not answer, or refuses.
    """
    overlap = timedelta(days=source.overlap_days)
    with Web(desk, source.url, requests_per_minute=source.requests_per_minute) as web:
        for currency in source.currencies:
            path = f"/data/EXR/D.{currency}.EUR.SP00.A"
            for window in desk.windows(
                currency, source.first_day, overlap=overlap, past_length=PAST
            ):
                asked: dict[str, str | int] = {
                    "startPeriod": f"{window.start:%Y-%m-%d}",
                    "endPeriod": f"{window.end - timedelta(days=1):%Y-%m-%d}",
                    "format": "csvdata",
                }
                name = f"{FOLDER}/{source.name}/{currency}/{window.name}.csv"
                try:
                    desk.land(name, partial(_fill, web, path, asked))
                except EmptyError:
                    continue


def _fill(web: Web, path: str, asked: dict[str, str | int], into: IO[bytes]) -> None:
    web.get(path, asked, into, shape=b"KEY,", is_whole=_is_whole)
    if b"\n" not in last_bytes(into):
        raise EmptyError([f"{web.where}: found no rate, expected some"])


def _is_whole(answer: IO[bytes]) -> bool:
    """Whether there is a first line, and the last has as many fields: its last say no rate."""
    last = last_bytes(answer).rpartition(b"\n")[2]
    answer.seek(0)
    first = answer.readline()
    answer.seek(0, 2)
    names, values = (
        next(csv.reader([line.decode(errors="replace").strip()])) for line in (first, last)
    )
    return first.endswith(b"\n") and len(names) == len(values)
