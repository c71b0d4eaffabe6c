"""Pulls metrics of a Prometheus server, as `query_range` answers.

What belongs here: which requests it takes. What does not: which metrics mean what
(`pipelines/connectors/prometheus.py`).

One request is of one metric for at most a day, and less where a day has more than the 11,000 steps
that Prometheus gives at most. What is too large is asked for in halves. Nothing is asked for beyond
now: Prometheus would go on with the last sample for five minutes.
"""

from contextlib import ExitStack
from datetime import timedelta
from functools import partial

from pipelines.pulls.desk import DAY, Desk, TooLargeError, Window
from pipelines.pulls.web import RefusedError, Web
from pipelines.reference.sources import PrometheusSource

MOST_POINTS = 11_000
PARTS_OF_A_DAY = (1, 2, 3, 4, 6, 8, 12, 24)
FOLDER = "prometheus"


def pull(source: PrometheusSource, desk: Desk) -> None:
    """Land what is new of every metric in `prometheus/<source>/<metric>/`.

    Raises:
        PullError: it does not answer, or refuses.
    """
    step = timedelta(seconds=source.step_s)
    length = next(DAY / parts for parts in PARTS_OF_A_DAY if DAY / parts <= MOST_POINTS * step)
    auth = None
    if source.user is not None and source.password_variable is not None:
        auth = source.user, desk.secrets.get(source.password_variable)
    with ExitStack() as stack:
        web = stack.enter_context(
            Web(desk, source.url, requests_per_minute=source.requests_per_minute, auth=auth)
        )
        if source.token_variable is not None:
            web.authorize(desk.secrets.get(source.token_variable))
        for metric in source.metrics:
            overlap = timedelta(days=source.overlap_days)
            for window in desk.windows(metric, source.first_day, overlap=overlap, length=length):
                _land(source, desk, web, metric, window)


def _land(source: PrometheusSource, desk: Desk, web: Web, metric: str, window: Window) -> None:
    step = timedelta(seconds=source.step_s)
    last = min(window.end - timedelta(microseconds=1), desk.now)
    steps = (last - window.start) // step
    if steps < 0:
        return
    asked: dict[str, str | int] = {
        "query": f"{metric}{{{source.match}}}" if source.match else metric,
        "start": int(window.start.timestamp()),
        "end": int((window.start + steps * step).timestamp()),
        "step": source.step_s,
    }
    name = f"{FOLDER}/{source.name}/{metric}/{window.name}.json"
    try:
        desk.land(name, partial(web.get, "/api/v1/query_range", asked, shape=b"{"))
    except (TooLargeError, RefusedError) as error:
        is_too_much = isinstance(error, TooLargeError) or "too many samples" in error.text
        whole = (window.end - window.start) // step
        if not is_too_much or whole < 2:
            raise
        middle = window.start + whole // 2 * step
        for half in (Window(window.start, middle), Window(middle, window.end)):
            _land(source, desk, web, metric, half)
