"""Pulls hourly carbon intensities of Electricity Maps.

What belongs here: the requests. What does not: reading the answers
(`pipelines/connectors/electricity_maps.py`).

From its documentation (docs.electricitymaps.com, v3): `past-range` gives hours of 10 days at most,
of the past; where no `emissionFactorType` is asked for, life-cycle factors.
"""

from datetime import timedelta
from functools import partial

from pipelines.pulls.desk import Desk
from pipelines.pulls.web import Web
from pipelines.reference.sources import ElectricityMapsSource

FOLDER = "electricity_maps"
FACTORS = {"direct": "direct", "life_cycle": "lifecycle"}


def pull(source: ElectricityMapsSource, desk: Desk) -> None:
    """Land what is new, a zone's day a file, in `electricity_maps/<source>/<zone>/`.

    Raises:
        PullError: it does not answer, or refuses.
    """
    headers = {"auth-token": desk.secrets.get(source.token_variable)}
    overlap = timedelta(days=source.overlap_days)
    with Web(
        desk, source.url, requests_per_minute=source.requests_per_minute, headers=headers
    ) as web:
        for zone in source.zones:
            for window in desk.windows(zone, source.first_day, overlap=overlap):
                asked: dict[str, str | int] = {
                    "zone": zone,
                    "start": f"{window.start:%Y-%m-%dT%H:%M:%SZ}",
                    "end": f"{min(window.end, desk.now):%Y-%m-%dT%H:%M:%SZ}",
                    "emissionFactorType": FACTORS[source.basis],
                }
                name = f"{FOLDER}/{source.name}/{zone}/{window.name}_hourly.json"
                path = "/carbon-intensity/past-range"
                desk.land(name, partial(web.get, path, asked, shape=b"{"))
