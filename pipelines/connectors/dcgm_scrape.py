"""Reads what dcgm-exporter answers on `/metrics`, one scrape per file.

What belongs here: the text exposition and the moment of the scrape, which the text does not carry
and the file name does. What does not: which metric gives which column (`prometheus.py`).
"""

from datetime import datetime
from io import StringIO

import polars as pl
from prometheus_client import Metric
from prometheus_client.parser import text_fd_to_metric_families

from pipelines.connectors.common import Context, Tables, UnreadableFile
from pipelines.connectors.parsing import time_in_name
from pipelines.connectors.prometheus import is_gpu_metric, tables_of_samples

_EXPECTED = "the answer of dcgm-exporter's /metrics"


def read(content: bytes, *, file_name: str, context: Context) -> Tables:
    """Rows of `gpu_samples`: one per board of the scraped node.

    Raises:
        UnreadableFile: the name has no time, the text is no exposition, or it has no DCGM metric.
    """
    del context
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
        samples = [
            {
                **sample.labels,
                "__name__": _name(family, sample.name),
                "value": sample.value,
                "time": scraped_at,
                "time_found": file_name,
            }
            for family in text_fd_to_metric_families(stream)
            for sample in family.samples
            if is_gpu_metric(_name(family, sample.name))
        ]
    except (ValueError, IndexError) as error:
        # The parser runs off the end of some damaged lines, and says nothing of others.
        told = str(error) if isinstance(error, ValueError) and str(error) else "a damaged label"
        number = text.count("\n", 0, stream.tell())
        raise UnreadableFile(
            f"{file_name}: line {number} is no Prometheus text exposition ({told[:200]}); expected "
            f"{_EXPECTED}; scrape it again"
        ) from error
    if not samples:
        raise UnreadableFile(
            f"{file_name}: found no metric of a GPU's power, energy, utilization or throttling; "
            "expected DCGM_FI_DEV_POWER_USAGE or others of dcgm-exporter; scrape its /metrics"
        )
    return tables_of_samples(pl.DataFrame(samples, infer_schema_length=None), file_name)


def _name(family: Metric, sample_name: str) -> str:
    """The metric's name as scraped: the parser adds `_total` to every counter, DCGM's have none."""
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
