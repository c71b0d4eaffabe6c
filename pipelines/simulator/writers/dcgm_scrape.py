"""Writes what dcgm-exporter answers on `/metrics`.

What belongs here: the text exposition of one node at one moment, and the file name that carries the
moment, which the text does not. What does not: answers of a Prometheus server (`prometheus.py`).
"""

from datetime import UTC, datetime

import polars as pl

from pipelines.simulator.writers.prometheus import (
    DCGM_METRICS,
    DcgmMetric,
    board_uuid,
    dcgm_values,
    metric_text,
)


def scrape_file_name(hostname: str, scraped_at: datetime) -> str:
    """The name a scrape is landed under, e.g. `jwb0001_20261101T000000Z.prom`."""
    return f"{hostname}_{scraped_at.astimezone(UTC):%Y%m%dT%H%M%SZ}.prom"


def write_scrape(
    gpu_samples: pl.DataFrame,
    *,
    scraped_at: datetime,
    model_name: str = "NVIDIA H100 80GB HBM3",
) -> bytes:
    """The scrape of one node at one time: the given boards, every metric they have.

    Raises:
        ValueError: the samples are of another time than `scraped_at`, or of more than one node.
    """
    if gpu_samples.filter(pl.col("sampled_at") != scraped_at).height:
        raise ValueError(f"a scrape holds one moment: some samples are not of {scraped_at}")
    if gpu_samples["hostname"].n_unique() > 1:
        raise ValueError(
            f"a scrape is of one node: found {gpu_samples['hostname'].unique().to_list()}"
        )
    boards = gpu_samples.with_columns(*dcgm_values(), uuid=board_uuid())
    return "".join(_metric_block(boards, metric, model_name) for metric in DCGM_METRICS).encode()


def _metric_block(boards: pl.DataFrame, metric: DcgmMetric, model_name: str) -> str:
    lines = boards.select(
        pl.format(
            '{}{{gpu="{}",UUID="{}",pci_bus_id="00000000:{}0:00.0",device="nvidia{}",'
            'modelName="{}",Hostname="{}"}} {}',
            pl.lit(metric.name),
            "gpu_index",
            "uuid",
            "gpu_index",
            "gpu_index",
            pl.lit(model_name),
            "hostname",
            metric_text(metric),
        )
    ).to_series()
    values = lines.drop_nulls().to_list()
    if not values:
        return ""
    head = [f"# HELP {metric.name} {metric.help}", f"# TYPE {metric.name} {metric.type}"]
    return "\n".join([*head, *values]) + "\n"
