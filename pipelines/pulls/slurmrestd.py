"""Pulls the jobs that slurmrestd knows at the moment.

What belongs here: the request. What does not: reading the answer (`pipelines/connectors/sacct.py`).

It forgets a job minutes after its end, so what ran between two pulls is in no answer: `slurm` asks
the accounting, which knows all.
"""

from functools import partial

from pipelines.pulls.desk import Desk
from pipelines.pulls.web import Web
from pipelines.reference.sources import SlurmrestdSource

FOLDER = "sacct"


def pull(source: SlurmrestdSource, desk: Desk) -> None:
    """Land the answer of now in `sacct/<source>/`.

    Raises:
        PullError: it does not answer, or refuses.
    """
    headers = {
        "X-SLURM-USER-NAME": source.user,
        "X-SLURM-USER-TOKEN": desk.secrets.get(source.token_variable),
    }
    name = f"{FOLDER}/{source.name}/jobs_{desk.now:%Y%m%dT%H%M%SZ}.json"
    with Web(
        desk, source.url, requests_per_minute=source.requests_per_minute, headers=headers
    ) as web:
        path = f"/slurm/{source.api_version}/jobs"
        desk.land(name, partial(web.get, path, {}, shape=b"{"))
