"""Pulls average emission rates (co2_aoer) of WattTime's regions.

What belongs here: signing in, and the requests. What does not: reading the answers
(`pipelines/connectors/watttime.py`).

From its documentation (docs.watttime.org, v3): `/login` gives a token for a user and a password,
which ends after 30 minutes; `/v3/historical` gives 32 days at most, both instants included; 3,000
requests may be made in 5 minutes. Points come late, by up to hours, and may change at any time.
"""

import io
from datetime import timedelta
from functools import partial

from pipelines.pulls.desk import Desk
from pipelines.pulls.web import Web
from pipelines.reference.sources import WattTimeSource

FOLDER = "watttime"
SIGNAL = "co2_aoer"
PAST = timedelta(days=30)
TOKEN_S = 25 * 60


def pull(source: WattTimeSource, desk: Desk) -> None:
    """Land what is new, a region's day or 30 past days a file, in `watttime/<source>/<region>/`.

    Raises:
        PullError: it gives no token, does not answer, or refuses.
    """
    auth = desk.secrets.get(source.user_variable), desk.secrets.get(source.password_variable)
    overlap = timedelta(days=source.overlap_days)
    rate = source.requests_per_minute
    with (
        Web(desk, source.url, requests_per_minute=rate, auth=auth) as entrance,
        Web(desk, source.url, requests_per_minute=rate) as web,
    ):
        web.authorize_by(partial(_token, entrance), for_s=TOKEN_S)
        for region in source.regions:
            for window in desk.windows(region, source.first_day, overlap=overlap, past_length=PAST):
                last = min(window.end - timedelta(seconds=1), desk.now)
                asked: dict[str, str | int] = {
                    "region": region,
                    "signal_type": SIGNAL,
                    "start": f"{window.start:%Y-%m-%dT%H:%M:%SZ}",
                    "end": f"{last:%Y-%m-%dT%H:%M:%SZ}",
                }
                name = f"{FOLDER}/{source.name}/{region}/{window.name}.json"
                desk.land(name, partial(web.get, "/v3/historical", asked, shape=b"{"))


def _token(entrance: Web) -> str:
    answer = io.BytesIO()
    entrance.get("/login", {}, answer, shape=b"{")
    return entrance.token(answer, "token")
