"""Reads what Kepler exports: its scrapes, and a Prometheus server's answers with its metrics.

What belongs here: telling the two apart. What does not: which of its metrics mean what
(`metrics.py`, `prometheus.py`).
"""

from collections.abc import Iterator

from pipelines.connectors import dcgm_scrape, prometheus
from pipelines.connectors.common import Context, Tables


def read_parts(content: bytes, *, file_name: str, context: Context) -> Iterator[Tables]:
    """Rows of `gpu_samples` and `node_power_samples`, whichever metrics the file holds.

    Raises:
        UnreadableFile: it is neither a scrape with its time in its name nor an answer.
    """
    if content.lstrip()[:1] in (b"{", b"["):
        yield from prometheus.read_parts(content, file_name=file_name, context=context)
    else:
        yield dcgm_scrape.read(content, file_name=file_name, context=context)
