"""Reads what dcgm-exporter answers on `/metrics`, one scrape per file.

What belongs here: the text exposition and the moment of the scrape, which the text does not carry
and the file name does. What does not: which metric gives which column (`prometheus.py`).
"""

import re
from datetime import datetime
from io import StringIO

import polars as pl
from prometheus_client import Metric
from prometheus_client.parser import text_fd_to_metric_families

from pipelines.connectors.common import Context, Tables, UnreadableFile, joined
from pipelines.connectors.metrics import left_out
from pipelines.connectors.parsing import time_in_name
from pipelines.connectors.prometheus import Known, tables_of_samples

_EXPECTED = "the answer of dcgm-exporter's /metrics"


def read(content: bytes, *, file_name: str, context: Context) -> Tables:
    """Rows of `gpu_samples`, one per board of the scraped node, and of the node's own power.

    A node that no label names is the one of the file's name.

    Raises:
        UnreadableFile: the name has no time, the text is no exposition, or it has no DCGM metric.
    """
    known = Known.of(context)
    scraped_at = _scraped_at(file_name)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UnreadableFile(
            f"{file_name}: not UTF-8 text ({error}); expected {_EXPECTED}; scrape it again"
        ) from error
    if not text.endswith("\n"):
        raise UnreadableFile(
            f"{file_name}: the last line has no end, so the scrape may be cut off; expected the "
            f"whole of {_EXPECTED}; scrape it again"
        )
    stream = StringIO(text)
    try:
        named = [
            (_name(family, sample.name, known), sample)
            for family in text_fd_to_metric_families(stream)
            for sample in family.samples
        ]
    except (ValueError, IndexError) as error:
        # The parser runs off the end of some damaged lines, and says nothing of others.
        told = str(error) if isinstance(error, ValueError) and str(error) else "a damaged label"
        number = text.count("\n", 0, stream.tell())
        raise UnreadableFile(
            f"{file_name}: line {number} is no Prometheus text exposition ({told[:200]}); expected "
            f"{_EXPECTED}; scrape it again"
        ) from error
    samples = [
        {
            "instance": host_in_name(file_name),
            **{label: value for label, value in sample.labels.items() if label in known.columns},
            "__name__": name,
            "value": sample.value,
            "time": scraped_at,
            "time_found": file_name,
        }
        for name, sample in named
        if name in known.host_labels
    ]
    others = left_out(sum(known.is_other(name) for name, _ in named))
    if not samples and others["gpu_samples"].is_empty():
        raise UnreadableFile(
            f"{file_name}: found no metric of a GPU's power, energy, utilization or throttling; "
            "expected DCGM_FI_DEV_POWER_USAGE or others of dcgm-exporter; scrape its /metrics"
        )
    if not samples:
        return others
    tables = tables_of_samples(pl.DataFrame(samples, infer_schema_length=None), file_name, known)
    return tables if others["gpu_samples"].is_empty() else joined([tables, others])


def host_in_name(file_name: str) -> str | None:
    """What a file's name has before its time: the host that was scraped."""
    return re.split(r"_\d{8}T\d{6}Z", re.split("[/!]", file_name)[-1])[0] or None


def _name(family: Metric, sample_name: str, known: Known) -> str:
    """The metric's name as scraped: the parser adds `_total` to every counter, DCGM's have none."""
    if sample_name in known.host_labels:
        return sample_name
    return sample_name.removesuffix("_total") if family.type == "counter" else sample_name


def _scraped_at(file_name: str) -> datetime:
    scraped_at = time_in_name(file_name)
    if scraped_at is None:
        raise UnreadableFile(
            f"{file_name}: found no time of the scrape in the file name, expected "
            "<hostname>_<YYYYMMDDTHHMMSSZ>.prom, such as node0001_20261101T000000Z.prom "
            "(the text itself carries no time); rename the file"
        )
    return scraped_at
