"""Green Button (ESPI) feed from meter readings.

What belongs here: the Atom/ESPI text of readings as a data custodian sends it. What does not:
choosing meters, days and arrival times (the simulator), reading it (`connectors/green_button.py`).
"""

from datetime import UTC, datetime
from urllib.parse import quote
from uuid import NAMESPACE_URL, uuid5
from xml.sax.saxutils import escape

import polars as pl

_RESOURCE = "https://custodian.example/espi/1_1/resource"
_ESPI = 'xmlns="http://naesb.org/espi"'
_FLOW_DIRECTION = {"import": 1, "export": 19}
_QUALITY_CODE = {"measured": 17, "estimated": 8, "substituted": 7, "missing": 10}
_WH_PER_UNIT = {"Wh": 1, "kWh": 1_000, "MWh": 1_000_000}


def write_green_button(meter_readings: pl.DataFrame, *, published_at: datetime) -> bytes:
    """Write readings as one Atom feed: a UsagePoint per meter, a MeterReading per flow.

    Args:
        meter_readings: one row per meter, flow and interval, at least one.
        published_at: publication time of every entry, with a time zone.

    Quantities are written in whole Wh; a missing reading has quality 10 and no value.
    """
    published = f"{published_at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
    blocks = _interval_blocks(meter_readings)
    entries = [
        _entry(f"ReadingType/{_FLOW_DIRECTION[flow]}", [], f"Energy, {flow} (Wh)", content)
        for flow, content in _reading_types(blocks).items()
    ]
    for (meter_id,), flows in blocks.group_by("meter_id", maintain_order=True):
        point = f"RetailCustomer/1/UsagePoint/{quote(str(meter_id), safe='')}"
        service = "<ServiceCategory><kind>0</kind></ServiceCategory>"
        content = f"<UsagePoint {_ESPI}>{service}</UsagePoint>"
        entries.append(_entry(point, [f"{point}/MeterReading"], str(meter_id), content))
        for flow, interval, readings in flows.select("flow", "interval", "readings").iter_rows():
            code = _FLOW_DIRECTION[flow]
            reading = f"{point}/MeterReading/{code}"
            related = [f"{reading}/IntervalBlock", f"ReadingType/{code}"]
            entries.append(_entry(reading, related, flow, f"<MeterReading {_ESPI}/>"))
            block = f"<IntervalBlock {_ESPI}>{interval}{readings}</IntervalBlock>"
            entries.append(_entry(f"{reading}/IntervalBlock/1", [], "", block))
    stamp = f"<published>{published}</published><updated>{published}</updated>"
    feed = (
        '<?xml version="1.0" encoding="UTF-8"?>\n<feed xmlns="http://www.w3.org/2005/Atom">'
        f"<id>{_uuid('feed/' + published)}</id><title>Green Button Usage Feed</title>"
        f'<updated>{published}</updated><link rel="self" href="{_RESOURCE}/Batch"/>\n'
    )
    body = "".join(f"<entry>{entry}{stamp}</entry>\n" for entry in entries)
    return f"{feed}{body}</feed>\n".encode()


def _interval_blocks(meter_readings: pl.DataFrame) -> pl.DataFrame:
    """One row per meter and flow, its readings as ESPI text in time order."""
    start = pl.col("interval_started_at").dt.epoch("s")
    duration = pl.col("interval_ended_at").dt.epoch("s") - start
    wh = pl.col("quantity") * pl.col("unit").replace_strict(_WH_PER_UNIT, return_dtype=pl.Float64)
    value = pl.when(pl.col("quality") != "missing").then(wh.round().cast(pl.Int64))
    quality = pl.col("quality").replace_strict(_QUALITY_CODE, return_dtype=pl.Int64)
    period = "<duration>{}</duration><start>{}</start>"
    text = pl.concat_str(
        pl.lit("<IntervalReading><ReadingQuality><quality>"),
        quality,
        pl.format(f"</quality></ReadingQuality><timePeriod>{period}</timePeriod>", duration, start),
        pl.format("<value>{}</value>", value).fill_null(""),
        pl.lit("</IntervalReading>\n"),
    )
    return (
        meter_readings.sort("interval_started_at")
        .with_columns(text.alias("text"), start.alias("start"), duration.alias("duration"))
        .group_by("meter_id", "flow", maintain_order=True)
        .agg(
            pl.col("text").str.join(""),
            pl.col("start").min(),
            (pl.col("start") + pl.col("duration")).max().alias("end"),
            pl.col("duration").first(),
        )
        .sort("meter_id", "flow", descending=[False, True])
        .select(
            "meter_id",
            "flow",
            "duration",
            pl.format(
                f"<interval>{period}</interval>\n", pl.col("end") - pl.col("start"), "start"
            ).alias("interval"),
            pl.col("text").alias("readings"),
        )
    )


def _reading_types(blocks: pl.DataFrame) -> dict[str, str]:
    """ReadingType content of each flow present."""
    lengths = dict(blocks.select("flow", "duration").unique("flow").sort("flow").iter_rows())
    return {
        flow: (
            f"<ReadingType {_ESPI}><accumulationBehaviour>4</accumulationBehaviour>"
            "<commodity>1</commodity><dataQualifier>12</dataQualifier>"
            f"<flowDirection>{_FLOW_DIRECTION[flow]}</flowDirection>"
            f"<intervalLength>{length}</intervalLength><kind>12</kind>"
            "<powerOfTenMultiplier>0</powerOfTenMultiplier><uom>72</uom></ReadingType>"
        )
        for flow, length in lengths.items()
    }


def _entry(path: str, related: list[str], title: str, content: str) -> str:
    href = f"{_RESOURCE}/{path}"
    links = "".join(f'<link rel="related" href="{_RESOURCE}/{other}"/>' for other in related)
    return (
        f'<id>{_uuid(path)}</id><link rel="self" href="{href}"/>'
        f'<link rel="up" href="{href.rpartition("/")[0]}"/>{links}'
        f"<title>{escape(title)}</title><content>{content}</content>"
    )


def _uuid(path: str) -> str:
    return f"urn:uuid:{uuid5(NAMESPACE_URL, f'{_RESOURCE}/{path}')}"
