"""Pulls day-ahead prices (A44) and generation by type (A75) of the ENTSO-E Transparency Platform.

What belongs here: the requests. What does not: reading the answers
(`pipelines/connectors/entsoe.py`).

A day a request, tomorrow's prices too. The platform wants its token in the query: it is in no file
name and in no message.
"""

from datetime import timedelta
from functools import partial

from pipelines.pulls.desk import DAY, Desk, Window
from pipelines.pulls.web import RefusedError, Web
from pipelines.reference.sources import EntsoeSource

FOLDER = "entsoe"
NO_DATA = "No matching data"


def pull(source: EntsoeSource, desk: Desk) -> None:
    """Land what is new, a document a day, in `entsoe/<source>/<document>/<zone>/`.

    Raises:
        PullError: it does not answer, or refuses.
    """
    token = desk.secrets.get(source.token_variable)
    overlap = timedelta(days=source.overlap_days)
    with Web(desk, source.url, requests_per_minute=source.requests_per_minute) as web:
        for document in source.documents:
            for zone in source.zones:
                windows = desk.windows(
                    f"{document}/{zone}",
                    source.first_day,
                    overlap=overlap,
                    ahead=DAY if document == "A44" else timedelta(0),
                )
                for window in windows:
                    asked = _asked(document, zone, window) | {"securityToken": token}
                    name = f"{FOLDER}/{source.name}/{document}/{zone}/{window.name}.xml"
                    _land(desk, web, name, asked)


def _asked(document: str, zone: str, window: Window) -> dict[str, str | int]:
    span = {
        "periodStart": f"{window.start:%Y%m%d%H%M}",
        "periodEnd": f"{window.end:%Y%m%d%H%M}",
    }
    if document == "A44":
        # Without the contract's type, prices of intraday auctions come with those of the day ahead.
        return {
            "documentType": document,
            "contract_MarketAgreement.type": "A01",
            "in_Domain": zone,
            "out_Domain": zone,
            **span,
        }
    return {"documentType": document, "processType": "A16", "in_Domain": zone, **span}


def _land(desk: Desk, web: Web, name: str, asked: dict[str, str | int]) -> None:
    try:
        desk.land(name, partial(web.get, "", asked, shape=b"<"))
    except RefusedError as error:
        # It has said so with status 200 and with 400: there is nothing to land then.
        if error.status != 400 or NO_DATA not in error.text:
            raise
