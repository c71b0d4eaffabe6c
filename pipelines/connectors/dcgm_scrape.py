"""Reads what dcgm-exporter answers on `/metrics`, one scrape per file.

What belongs here: the text exposition and the moment of the scrape, which the text does not carry
and the file name does. What does not: which metric gives which column (`prometheus.py`).
"""

import re
from datetime import UTC, datetime

import polars as pl
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from pipelines.connectors.common import Context, Tables, UnreadableFile
from pipelines.connectors.prometheus import is_gpu_metric, tables_of_samples

_TIME_IN_NAME = re.compile(r"_(\d{8}T\d{6}Z)(?=\.|$)")


def read(content: bytes, *, file_name: str, context: Context) -> Tables:
    """Rows of `gpu_samples`: one per board of the scraped node.

    Raises:
        UnreadableFile: the name has no time, the text is no exposition, or it has no DCGM metric.
    """
    del context
    scraped_at = _scraped_at(file_name)
    try:
        text = content.decode()
        samples = [
            {
                **sample.labels,
                "__name__": _name(family, sample.name),
                "value": sample.value,
                "time": scraped_at,
                "time_found": file_name,
            }
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if is_gpu_metric(_name(family, sample.name))
        ]
    except ValueError as error:
        raise UnreadableFile(
            f"{file_name}: not Prometheus text exposition ({error}); expected the answer of "
            "dcgm-exporter's /metrics; scrape it again"
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
    times = _TIME_IN_NAME.findall(file_name)
    try:
        return datetime.strptime(times[-1], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except (IndexError, ValueError) as error:
        raise UnreadableFile(
            f"{file_name}: found no time of the scrape in the file name, expected "
            "<hostname>_<YYYYMMDDTHHMMSSZ>.prom, such as node0001_20261101T000000Z.prom "
            "(the text itself carries no time); rename the file"
        ) from error
