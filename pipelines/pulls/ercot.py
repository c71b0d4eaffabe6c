"""Pulls ERCOT's day-ahead settlement point prices (report NP4-190-CD) from its public API.

What belongs here: signing in, which files there are, and getting them. What does not: reading
prices (`pipelines/connectors/prices_csv.py`).

From its documentation (developer.ercot.com): a user with a password signs in for an ID token, which
ends after an hour, by a client id that is the same for all; a subscription key goes with it.
`/archive/np4-190-cd` lists the files posted in a span of time, of ERCOT's local time, and gives one
by its id, as a zip archive of CSV. Each delivery day has its file, posted the day before. 30
requests may be made in a minute, from within the United States alone. As its terms ask for, no file
is downloaded twice; what ERCOT corrects is another file.
"""

import io
from datetime import timedelta
from functools import partial
from typing import Any
from zoneinfo import ZoneInfo

from pipelines.pulls.desk import DAY, Desk, PullError, Window
from pipelines.pulls.web import ARCHIVE, Web, is_whole_archive
from pipelines.reference.sources import ErcotSource

FOLDER = "prices_csv"
REPORT = "np4-190-cd"
CLIENT_ID = "fec253ea-0d06-4272-a5e6-b478baeecd70"
LOCAL = ZoneInfo("America/Chicago")
PAST = timedelta(days=30)
TOKEN_S = 55 * 60
MOST_FILES = 1000
"""Of a page of the list."""


def pull(source: ErcotSource, desk: Desk) -> None:
    """Land the files that are new, a delivery day each, in `prices_csv/<source>/`.

    Raises:
        PullError: it gives no token, does not answer, or refuses.
    """
    form = {
        "grant_type": "password",
        "username": desk.secrets.get(source.user_variable),
        "password": desk.secrets.get(source.password_variable),
        "response_type": "id_token",
        "scope": f"openid {CLIENT_ID} offline_access",
        "client_id": CLIENT_ID,
    }
    headers = {"Ocp-Apim-Subscription-Key": desk.secrets.get(source.key_variable)}
    rate = source.requests_per_minute
    with (
        Web(desk, source.token_url, requests_per_minute=rate) as entrance,
        Web(desk, source.url, requests_per_minute=rate, headers=headers) as web,
    ):
        web.authorize_by(partial(_token, entrance, form), for_s=TOKEN_S)
        windows = desk.windows(
            REPORT,
            source.first_day - DAY,
            overlap=timedelta(days=source.overlap_days),
            past_length=PAST,
        )
        for window in windows:
            for document, posted_at in _documents(web, window).items():
                if desk.copied(document) == posted_at:
                    continue
                asked: dict[str, str | int] = {"download": document}
                get = partial(
                    web.get, f"/archive/{REPORT}", asked, shape=ARCHIVE, is_whole=is_whole_archive
                )
                desk.land(f"{FOLDER}/{source.name}/{REPORT}_{document}.zip", get)
                desk.note_copied(document, posted_at)


def _token(entrance: Web, form: dict[str, str]) -> str:
    answer = io.BytesIO()
    entrance.post(form, answer)
    return entrance.token(answer, "id_token", check="token_url")


def _documents(web: Web, window: Window) -> dict[str, str]:
    """The files posted in a window: id -> when."""
    found: dict[str, str] = {}
    page, last = 1, 1
    while page <= last:
        asked: dict[str, str | int] = {
            "postDatetimeFrom": f"{window.start.astimezone(LOCAL):%Y-%m-%dT%H:%M:%S}",
            "postDatetimeTo": f"{window.end.astimezone(LOCAL):%Y-%m-%dT%H:%M:%S}",
            "size": MOST_FILES,
            "page": page,
        }
        answer = io.BytesIO()
        web.get(f"/archive/{REPORT}", asked, answer, shape=b"{")
        listed, last = _listed(web, web.json(answer))
        found |= listed
        page += 1
    return found


def _listed(web: Web, told: Any) -> tuple[dict[str, str], int]:
    """The files of a page of the list, and how many pages it has."""
    try:
        files = {str(int(file["docId"])): str(file["postDatetime"]) for file in told["archives"]}
        return files, int(told["_meta"]["totalPages"])
    except (KeyError, TypeError, ValueError):
        raise PullError(
            [
                f"{web.where}: found no list of files, expected archives, each with docId and"
                " postDatetime, and totalPages in _meta: check url"
            ]
        ) from None
