"""Pulls day-ahead prices (PRC_LMP) of CAISO's nodes from OASIS.

What belongs here: the requests, and what OASIS says in place of prices. What does not: reading
prices (`pipelines/connectors/prices_csv.py`).

From the interface specification of OASIS: `SingleZip` gives a report as a zip archive, with
`resultformat` 6 of CSV, of 31 days at most, and needs no key. As others have seen it answer: what
comes sooner than 5 seconds after the request before is refused with status 429; what it has not,
or does not understand, it tells with status 200 by an XML file in the archive, with a code.
"""

import re
import zipfile
import zlib
from datetime import timedelta
from functools import partial
from typing import IO

from pipelines.pulls.desk import DAY, Desk, PullError
from pipelines.pulls.web import ARCHIVE, Web, is_whole_archive
from pipelines.reference.sources import CaisoSource

FOLDER = "prices_csv"
PAST = timedelta(days=30)
NO_DATA = "1000"
MOST_TOLD_BYTES = 2**16


class _NoDataError(PullError):
    """There are no prices of what was asked for."""


def pull(source: CaisoSource, desk: Desk) -> None:
    """Land what is new, a node's day or 30 past days a file, in `prices_csv/<source>/<node>/`.

    Raises:
        PullError: it does not answer, or refuses.
    """
    overlap = timedelta(days=source.overlap_days)
    with Web(desk, source.url, requests_per_minute=source.requests_per_minute) as web:
        for node in source.nodes:
            for window in desk.windows(
                node, source.first_day, overlap=overlap, past_length=PAST, ahead=DAY
            ):
                asked: dict[str, str | int] = {
                    "queryname": "PRC_LMP",
                    "market_run_id": "DAM",
                    "node": node,
                    "startdatetime": f"{window.start:%Y%m%dT%H:%M}-0000",
                    "enddatetime": f"{window.end:%Y%m%dT%H:%M}-0000",
                    "version": 12,
                    "resultformat": 6,
                }
                name = f"{FOLDER}/{source.name}/{node}/{window.name}.zip"
                try:
                    desk.land(name, partial(_fill, web, asked))
                except _NoDataError:
                    continue


def _fill(web: Web, asked: dict[str, str | int], into: IO[bytes]) -> None:
    web.get("/SingleZip", asked, into, shape=ARCHIVE, is_whole=is_whole_archive)
    try:
        with zipfile.ZipFile(into) as archive:
            names = archive.namelist()
            if any(name.lower().endswith(".csv") for name in names):
                return
            with archive.open(names[0]) as member:
                told = member.read(MOST_TOLD_BYTES).decode(errors="replace")
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise PullError([f"{web.where}: found a broken archive ({error}): pull again"]) from error
    code = re.search(r"<(?:\w+:)?ERR_CODE>\s*(\w+)", told)
    reason = re.search(r"<(?:\w+:)?ERR_DESC>([^<]*)", told)
    if code and code[1] == NO_DATA:
        raise _NoDataError([f"{web.where}: has no prices of {asked['node']}"])
    shown = " ".join(reason[1].split())[:200] if reason else f"no reason given, {names[0]!r}"
    raise PullError(
        [
            f"{web.where}: found no CSV in the archive, expected prices of {asked['node']}:"
            f" {code[1] if code else 'no code'}: {shown}"
        ]
    )
