"""Pulls all events of programs of an OpenADR 3.1 VTN.

What belongs here: the token, and the pages of a listing. What does not: reading events
(`pipelines/connectors/openadr.py`).

A VTN tells nobody who asks that an event was deleted, so each pull lists all of a program. The
listing lands as one file, several pages joined: in part it would take back what is on the others.
"""

import io
from typing import IO

import orjson

from pipelines.pulls.desk import Desk, PullError, TooLargeError
from pipelines.pulls.web import Web
from pipelines.reference.sources import OpenadrSource

FOLDER = "openadr/full"
PAGE = 50
"""Events of an answer at most (OpenADR 3.1.0, `limit`)."""
MOST_EVENTS = 100_000


def pull(source: OpenadrSource, desk: Desk) -> None:
    """Land the listing of now of every program in `openadr/full/<program>/`.

    Raises:
        PullError: it gives no token, does not answer, or refuses.
    """
    with Web(desk, source.url, requests_per_minute=source.requests_per_minute) as web:
        web.authorize(_token(source, desk))
        for program in source.programs:
            desk.progress(f"{source.name}: {program}")
            name = f"{FOLDER}/{program}/{source.name}_{desk.now:%Y%m%dT%H%M%SZ}.json"
            events = _events(web, program, desk.limits.answer_bytes)

            def fill(into: IO[bytes], events: bytes = events) -> None:
                into.write(events)

            desk.land(name, fill)


def _token(source: OpenadrSource, desk: Desk) -> str:
    form = {
        "grant_type": "client_credentials",
        "client_id": source.client_id,
        "client_secret": desk.secrets.get(source.client_secret_variable),
    }
    if source.scope is not None:
        form["scope"] = source.scope
    answer = io.BytesIO()
    url = source.token_url or f"{source.url}/auth/token"
    with Web(desk, url, requests_per_minute=source.requests_per_minute) as web:
        web.post(form, answer)
        return web.token(answer, "access_token", check="token_url")


def _events(web: Web, program: str, most_bytes: int) -> bytes:
    """All events of a program; the answer as it came where it is on one page."""
    pages: list[bytes] = []
    events: list[object] = []
    seen: set[object] = set()
    while True:
        answer = io.BytesIO()
        asked: dict[str, str | int] = {
            "programID": program,
            "skip": len(events),
            "limit": PAGE,
        }
        web.get("/events", asked, answer, shape=b"[")
        page = web.json(answer)
        ids = {event.get("id") for event in page if isinstance(event, dict)}
        if seen & ids:
            raise PullError(
                [
                    f"{web.where}: found an event of {program} on two pages, expected each once:"
                    " events changed while they were listed, or it does not know skip: pull again"
                ]
            )
        seen |= ids
        pages.append(answer.getvalue())
        events += page
        if sum(map(len, pages)) > most_bytes or len(events) > MOST_EVENTS:
            raise TooLargeError([f"{web.where}: found more events of {program} than may be"])
        if len(page) < PAGE:
            return pages[0] if len(pages) == 1 else orjson.dumps(events)
