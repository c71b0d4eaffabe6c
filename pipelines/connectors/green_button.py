"""Green Button (ESPI) energy usage: an Atom feed of interval readings.

What belongs here: resolving the feed's links and reading energy intervals. What does not: usage
summaries, costs and power quality, and which site a meter belongs to (reference).

Series of a usage point that are no active energy (power, reactive and apparent energy, costs …) are
left out, as are gas and water, and a net or total series of which import and export are told beside
it. The series of single tariffs (`tou` of the ReadingType) are left out where their total is told
beside them; else each is a meter of its own, `SPK-PCC-tou1`. A series whose links lead nowhere is
rejected, and the others load. Where two series of a usage point tell different energy of the same
interval and direction, neither is taken. Series of other interval lengths are other accounts of the
same energy, which the book compares and never adds.

A reading's unit and direction stand on the ReadingType that its MeterReading links to; its meter
is the UsagePoint whose MeterReading collection it is listed under. Both are found by `rel` links,
never by order. The meter id is the last part of the UsagePoint's self link, as `SPK-PCC` in
`.../UsagePoint/SPK-PCC`. Value x 10^powerOfTenMultiplier is in Wh for uom 72.

Quality follows ESPI's codes: 0 valid, 14 raw, 17 validated, 18 verified and 19 revenue are
measured, as is a reading without a code; 7 manually edited is substituted; 8 reference day, 9
interpolated, 11 derived, 12 projected, 13 mixed, 15 weather-normalized and 16 other are estimated;
10 has failed a check and counts as missing, whatever its value.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import chain
from urllib.parse import unquote
from xml.etree.ElementTree import Element

import polars as pl

from pipelines.connectors.common import (
    LEFT_OUT_REASON,
    REJECT_REASON,
    Context,
    Tables,
    UnreadableFile,
)
from pipelines.connectors.parsing import (
    Field,
    Problem,
    assemble,
    child_text,
    number,
    parse_xml,
    parsed_instant,
    shown,
    text,
)

_EXPECTED = "a Green Button feed with UsagePoint, MeterReading, ReadingType and IntervalBlock"
_MEND = "ask for the whole subscription (Batch) in one feed"
_FLOW = {"1": "import", "19": "export"}
_NET_OR_TOTAL = ("4", "20")
_UNIT = {"0": "Wh", "3": "kWh", "6": "MWh"}
_WH_PER_UNIT = {"Wh": 1.0, "kWh": 1e3, "MWh": 1e6}
_ELECTRICITY = ("1", "2")
_ELECTRICITY_SERVICE = "0"
_MONEY = "3"
_TOTAL = "0"
_INTERVAL_ENERGY = ("0", "4")
_QUALITY = {
    "measured": ("0", "14", "17", "18", "19"),
    "substituted": ("7",),
    "estimated": ("8", "9", "11", "12", "13", "15", "16"),
    "missing": ("10",),
}
_CLASS = {code: quality for quality, codes in _QUALITY.items() for code in codes}
_WORST_LAST = list(_QUALITY)
_LAST_START_S = 4_102_444_800  # 2100-01-01: a start beyond it is an error of unit (ms for s)
_LONGEST_S = 32 * 86_400  # a billing month; what is longer is no interval reading


@dataclass(frozen=True)
class _Entry:
    """One Atom entry: its resource, its links and since when it is known."""

    kind: str
    resource: Element
    self_link: str
    up_link: str
    related: tuple[str, ...]
    updated: str | None


@dataclass
class _Channel:
    """What the links say of the readings of one MeterReading."""

    meter_id: str | None = None
    direction: str = ""
    flow: str | None = None
    tou: str = _TOTAL
    unit: str | None = None
    exponent: int = 0
    interval_s: str | None = None
    default_quality: str = "0"
    problems: list[str] = field(default_factory=list)
    left_out: str | None = None


def read(content: bytes, *, file_name: str, context: Context) -> Tables:
    """Read energy readings, one row per IntervalReading.

    Raises:
        UnreadableFile: when it is not a feed with readings whose meter and type can be resolved.
    """
    del file_name, context
    feed = parse_xml(content, expected=_EXPECTED)
    if feed.tag not in ("feed", "entry"):
        raise UnreadableFile(f"the root element is {feed.tag}: expected {_EXPECTED}")
    entries = list(_entries(feed))
    blocks = [entry for entry in entries if entry.kind == "IntervalBlock"]
    if not blocks:
        kinds = ", ".join(sorted({entry.kind for entry in entries}))
        told = f"{kinds} but no IntervalBlock" if kinds else "no entry"
        raise UnreadableFile(f"the feed has {told}: {_MEND}")
    feed_updated = child_text(feed, "updated")
    channels = _channels(entries)
    found = [_channel_of(block, channels) for block in blocks]
    if all(channel.meter_id is None for channel in found):
        raise UnreadableFile(found[0].problems[0])
    readings = [
        reading
        for block, channel in zip(blocks, found, strict=True)
        for reading in _block_readings(block, channel, block.updated or feed_updated)
    ]
    return {"meter_readings": _meter_readings(readings)}


def _entries(feed: Element) -> Iterator[_Entry]:
    for entry in [feed] if feed.tag == "entry" else feed.findall("entry"):
        links = [
            (link.get("rel", ""), link.get("href", "").rstrip("/"))
            for link in entry.findall("link")
        ]
        by_rel = dict(reversed(links))
        related = tuple(href for rel, href in links if rel == "related")
        updated = child_text(entry, "updated") or child_text(entry, "published")
        for resource in chain.from_iterable(entry.findall("content")):
            yield _Entry(
                kind=resource.tag,
                resource=resource,
                self_link=by_rel.get("self", ""),
                up_link=by_rel.get("up", ""),
                related=related,
                updated=updated,
            )


def _channels(entries: list[_Entry]) -> dict[str, _Channel]:
    """Channel of each link that a MeterReading has to its interval blocks."""
    points = {
        link: entry for entry in entries if entry.kind == "UsagePoint" for link in entry.related
    }
    types = {entry.self_link: entry for entry in entries if entry.kind == "ReadingType"}
    channels: dict[str, _Channel] = {}
    meter_links: dict[str, str] = {}
    for entry in entries:
        if entry.kind != "MeterReading":
            continue
        point = points.get(entry.up_link) or points.get(entry.self_link)
        reading_type = next((types[link] for link in entry.related if link in types), None)
        if point is None or reading_type is None:
            missing, told = (
                ("UsagePoint", "meter is")
                if point is None
                else ("ReadingType", "unit and direction are")
            )
            problem = (
                f"no {missing} in the feed for MeterReading '{entry.self_link}', so its {told} not"
                f" known: {_MEND}"
            )
            channels.update(dict.fromkeys(entry.related, _Channel(problems=[problem])))
            continue
        meter_id = unquote(point.self_link.rpartition("/")[2])
        if not meter_id:
            raise UnreadableFile("a UsagePoint has no self link: expected one that ends in its id")
        if meter_links.setdefault(meter_id, point.self_link) != point.self_link:
            raise UnreadableFile(
                f"two UsagePoints end in '{meter_id}' ({meter_links[meter_id]} and "
                f"{point.self_link}): expected distinct ones; ask for one customer a file"
            )
        channel = _channel(meter_id, point.resource, reading_type.resource)
        channels.update(dict.fromkeys(entry.related, channel))
    flows = {(one.meter_id, one.flow) for one in channels.values() if not one.left_out}
    for one in channels.values():
        both = {(one.meter_id, flow) for flow in _FLOW.values()}
        if one.direction in _NET_OR_TOTAL and both <= flows:
            one.left_out = f"flowDirection {one.direction}: import and export stand beside it"
    _part_tariffs(list({id(one): one for one in channels.values()}.values()))
    return channels


def _part_tariffs(channels: list[_Channel]) -> None:
    """Leave out the series of tariffs beside their total, else make each a meter of its own."""
    told: dict[tuple[str | None, str | None], set[str]] = defaultdict(set)
    for one in channels:
        if not one.left_out:
            told[one.meter_id, one.flow].add(one.tou)
    parts = []
    for one in channels:
        tariffs = told[one.meter_id, one.flow]
        if one.left_out or one.tou == _TOTAL or len(tariffs) == 1:
            continue
        if _TOTAL in tariffs:
            one.left_out = f"tou {one.tou}: the total stands beside it"
        else:
            parts.append(one)
    for one in parts:
        one.meter_id = f"{one.meter_id}-tou{one.tou}"


def _channel_of(block: _Entry, channels: dict[str, _Channel]) -> _Channel:
    """The channel whose MeterReading lists the block, or lists what the block is part of."""
    problem = (
        f"no MeterReading in the feed leads to IntervalBlock '{block.up_link}', so its meter, unit"
        f" and direction are not known: {_MEND}"
    )
    found = channels.get(block.up_link) or channels.get(block.self_link)
    return found or _Channel(problems=[problem])


def _channel(meter_id: str, point: Element, reading_type: Element) -> _Channel:
    def told(name: str, default: str = "") -> str:
        return child_text(reading_type, name) or default

    channel = _Channel(
        meter_id=meter_id,
        direction=told("flowDirection"),
        interval_s=child_text(reading_type, "intervalLength"),
        default_quality=told("defaultQuality", "0"),
        tou=told("tou", _TOTAL),
        left_out=_left_out(
            child_text(point, "ServiceCategory", "kind") or _ELECTRICITY_SERVICE,
            told("commodity", "1"),
            told("kind"),
            told("uom"),
        ),
    )
    channel.flow = _FLOW.get(channel.direction)
    behaviour = told("accumulationBehaviour", "4")
    exponent = told("powerOfTenMultiplier", "0")
    channel.unit = _UNIT.get(exponent, "Wh")
    problems = {
        f"flowDirection '{channel.direction}': expected 1 (import) or 19 (export)": (
            channel.flow is None
        ),
        f"commodity {told('commodity')}: expected 1 or 2 (electricity)": (
            told("commodity", "1") not in _ELECTRICITY
        ),
        f"uom {told('uom')}: expected 72 (Wh)": told("uom") != "72",
        f"accumulationBehaviour {behaviour}: expected 4 (energy per interval)": (
            behaviour not in _INTERVAL_ENERGY
        ),
    }
    channel.problems = [problem for problem, is_there in problems.items() if is_there]
    if exponent not in _UNIT:
        if exponent.removeprefix("-").isdecimal() and len(exponent) <= 3:
            channel.exponent = int(exponent)
        else:
            channel.problems.append(f"powerOfTenMultiplier '{exponent[:20]}': expected -12 to 12")
    return channel


def _left_out(service: str, commodity: str, kind: str, uom: str) -> str | None:
    """Why a series is not active energy; null where it is, or where nothing says what it is."""
    if service.isdecimal() and service != _ELECTRICITY_SERVICE:
        return f"ServiceCategory {service}: no electricity"
    if commodity.isdecimal() and commodity not in ("0", *_ELECTRICITY):
        return f"commodity {commodity}: no electricity"
    if kind == _MONEY:
        return f"kind {kind}: money"
    if uom.isdecimal() and uom not in ("0", "72"):
        return f"uom {uom}: no active energy"
    return None


def _block_readings(
    block: _Entry, channel: _Channel, updated: str | None
) -> Iterator[tuple[object, ...]]:
    problem = "; ".join(channel.problems) or None
    block_start = child_text(block.resource, "interval", "start")
    for index, reading in enumerate(block.resource.findall("IntervalReading")):
        start = value = duration = None
        codes: list[str] = []
        for child in reading:
            name = child.tag
            if name == "value":
                value = child.text
            elif name == "timePeriod":
                start, duration = child_text(child, "start"), child_text(child, "duration")
            elif name == "ReadingQuality":
                codes.append(child_text(child, "quality") or "")
        yield (
            channel.meter_id,
            channel.flow,
            channel.unit,
            channel.exponent,
            start,
            block_start,
            index,
            duration or channel.interval_s,
            value.strip() if value else None,
            _quality_class(*codes or [channel.default_quality]),
            ", ".join(codes),
            updated,
            problem,
            channel.left_out,
            id(channel),
        )


@lru_cache
def _quality_class(*codes: str) -> str | None:
    """The worst class among the codes of a reading; null when one is unknown."""
    classes = [_CLASS.get(code) for code in codes]
    known = [_WORST_LAST.index(quality) for quality in classes if quality is not None]
    return _WORST_LAST[max(known)] if len(known) == len(classes) else None


_READING = {
    "meter_id": pl.String,
    "flow": pl.String,
    "unit": pl.String,
    "exponent": pl.Int64,
    "start": pl.String,
    "block_start": pl.String,
    "index": pl.Int64,
    "duration": pl.String,
    "value": pl.String,
    "quality": pl.String,
    "quality_codes": pl.String,
    "updated": pl.String,
    REJECT_REASON: pl.String,
    LEFT_OUT_REASON: pl.String,
    "series": pl.Int64,
}


def _meter_readings(readings: list[tuple[object, ...]]) -> pl.DataFrame:
    rows = pl.DataFrame(readings, schema=_READING, orient="row")
    duration = pl.col("duration").cast(pl.Int64, strict=False)
    # Without a timePeriod the readings of a block follow one another from its start.
    in_turn = pl.col("block_start").cast(pl.Int64, strict=False) + pl.col("index") * duration
    start = (
        pl.when(pl.col("start").is_null())
        .then(in_turn)
        .otherwise(pl.col("start").cast(pl.Int64, strict=False))
    )
    has_start = start.is_between(0, _LAST_START_S).fill_null(value=False)
    has_duration = duration.is_between(1, _LONGEST_S).fill_null(value=False)
    started = pl.from_epoch(pl.when(has_start).then(start), "s").cast(pl.Datetime("us"))
    started = started.dt.replace_time_zone("UTC")
    seconds = pl.duration(seconds=pl.when(has_start & has_duration).then(duration))
    value = number("value", at_least=0)
    scale = pl.lit(10.0).pow(pl.col("exponent").abs())
    quantity = (
        pl.when(pl.col("exponent") < 0).then(value.value / scale).otherwise(value.value * scale)
    )
    is_missing = pl.col("quality") == "missing"
    energy = quantity * pl.col("unit").replace_strict(_WH_PER_UNIT, default=None)
    interval = ["meter_id", "flow", start, duration]
    is_counted = ~is_missing & pl.col(REJECT_REASON).is_null() & pl.col(LEFT_OUT_REASON).is_null()
    is_told_twice = (
        pl.when(is_counted).then(energy.round(3)).drop_nulls().n_unique().over(interval) > 1
    ) & (pl.when(is_counted).then("series").drop_nulls().n_unique().over(interval) > 1)
    no_start = Problem(
        ~has_start,
        pl.format(
            "start '{}': expected seconds since 1970 (UTC)",
            shown(pl.coalesce("start", "block_start", pl.lit(""))),
        ),
    )
    no_duration = Problem(
        ~has_duration,
        pl.format(
            "duration '{}': expected seconds, at most 32 days",
            shown(pl.col("duration").fill_null("")),
        ),
    )
    no_quality = Problem(
        pl.col("quality").is_null(),
        pl.format("quality '{}': expected an ESPI code, 0 or 7 to 19", "quality_codes"),
    )
    told_twice = Problem(
        is_told_twice & is_counted,
        pl.format(
            "value '{}': another MeterReading of the UsagePoint tells other energy of the"
            " interval: expected one; ask for the total alone",
            shown(pl.col("value")),
        ),
    )
    return assemble(
        rows,
        {
            "meter_id": text("meter_id"),
            "flow": text("flow"),
            "interval_started_at": Field(started, (no_start,)),
            "interval_ended_at": Field(started + seconds, (no_duration,)),
            "quantity": Field(
                pl.when(is_missing.fill_null(value=False)).then(None).otherwise(quantity),
                tuple(
                    Problem(one.is_there & ~is_missing.fill_null(value=False), one.told)
                    for one in value.required("value", "the energy of the interval").problems
                ),
            ),
            "unit": text("unit"),
            "quality": Field(pl.col("quality"), (no_quality,)),
            "known_at": Field(parsed_instant(pl.col("updated"))),
        },
        problems=(told_twice,),
    )
