"""OpenADR 3 events: curtailment orders and grid alerts.

What belongs here: reading events in the JSON of OpenADR 3.0 and 3.1. What does not: prices and
other payloads, and which site a target is (`grid_event_target` in reference).

A file holds one event, a list of events, an object with a list `events`, or notifications of them.
IMPORT_CAPACITY_LIMIT becomes a curtailment_order, in KW or MW as `payloadDescriptors` say; ALERT_*
becomes an alert. Prices, greenhouse gas and other payloads that ask for no less import are left
out, as are events that only ask for reports, and objects that are no events beside some that are;
what asks for less import in other words (SIMPLE, DISPATCH_SETPOINT …) is rejected. Targets are
3.1's list of names or 3.0's list of type and values; an event without targets is for its whole
program, so `programID` is the target. A version of an event tells all its intervals and targets:
what the one before had beyond it no longer holds, and `whole_event_id` says which rows belong
together.

The event's `intervalPeriod` starts the first interval and gives each its duration; start and
duration of an interval's own override these, one by one. An interval without a start of its own, or
that starts at 0001-01-01, begins where the one before it ends. Several values of a limit share the
interval evenly. P9999Y means open end. The event's own `duration` cuts its intervals off, or
repeats them, one after the other, until it is over. `randomizeStart` shifts starts by what each
client draws, which no file tells: times are those ordered. An event that starts "now" (0001-01-01)
and has no end holds since `createdDateTime`. Where there are several intervals each has the id
`event#interval`, and `event#interval.n` where one holds several times.

A file below a folder `full/<program>/`, as `landing/openadr/full/dso-limits/20261005T1000.json`,
lists every event of that program there is: what it no longer has, the VTN has deleted. Such a
listing may be empty; a time in its name, as `_20261005T100000Z`, says of when it is.

OpenADR has no cancelled state: a VTN deletes the event and notifies its subscribers with operation
DELETE. Such a notification, in which the event stands as it was, cancels it. An event with an empty
list of intervals says nothing and is rejected; it does not cancel.
"""

import json
import re
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import PurePosixPath
from typing import Any, NamedTuple

import polars as pl

from pipelines.connectors.common import (
    LEFT_OUT_REASON,
    REJECT_REASON,
    Context,
    Tables,
    UnreadableFile,
)
from pipelines.connectors.parsing import UTC_TIME, decode, time_in_name

_EXPECTED = "an OpenADR 3 event, a list of events or a notification of one (JSON)"
_LIMIT = "IMPORT_CAPACITY_LIMIT"
_NO_ORDER = re.compile(
    r"PRICE|GHG|CURVE|EXPORT_\w+"
    r"|IMPORT_CAPACITY_(SUBSCRIPTION|RESERVATION|RESERVATION_FEE|AVAILABLE|AVAILABLE_PRICE)"
)
_NO_EVENTS = ("PROGRAM", "REPORT", "SUBSCRIPTION", "VEN", "RESOURCE")
_KW_PER_UNIT = {"KW": 1.0, "MW": 1000.0}
_LARGEST_LIMIT = 1e12
_FOREVER = "P9999Y"
_NOW = "0001-01-01"
_LAST = datetime.max.replace(tzinfo=UTC)
_MOST_PARTS = 10_000
"""Intervals of one event, repeated ones included: those of a quarter at 15 minutes."""
_DURATION = re.compile(
    r"P(?:(\d{1,6})W)?(?:(\d{1,6})D)?"
    r"(?:T(?:(\d{1,7})H)?(?:(\d{1,9})M)?(?:(\d{1,9}(?:\.\d{1,6})?)S)?)?\Z"
)
_UTC_FORM = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d{1,6})?)?(Z|[+-]\d\d:?\d\d)\Z")
_SCHEMA: dict[str, pl.DataType | type[pl.DataType]] = {
    "event_id": pl.String,
    "whole_event_id": pl.String,
    "program_id": pl.String,
    "target": pl.String,
    "event_type": pl.String,
    "started_at": UTC_TIME,
    "ended_at": UTC_TIME,
    "import_limit_kw": pl.Float64,
    "is_cancelled": pl.Boolean,
    "known_at": UTC_TIME,
    REJECT_REASON: pl.String,
    LEFT_OUT_REASON: pl.String,
}


class _RejectedError(ValueError):
    """Why an event or interval is rejected."""


class _LeftOutError(ValueError):
    """Why an event or interval is not for this book."""


class _Span(NamedTuple):
    """From when to when; open without an end."""

    started_at: datetime
    ended_at: datetime | None


class _Order(NamedTuple):
    """What an interval of the event, by its place in the list, says for a span of time."""

    interval: int
    event_type: str
    limit_kw: float | None
    span: _Span


def read(content: bytes, *, file_name: str, context: Context) -> Tables:
    """Read grid events, one row per target and interval of each event.

    Raises:
        UnreadableFile: when the JSON is not such an answer.
    """
    del context
    program_id = _listed_program(file_name)
    try:
        answer = json.loads(decode(content, expected=_EXPECTED))
    except (json.JSONDecodeError, RecursionError, ValueError) as error:
        if isinstance(error, UnreadableFile):
            raise
        raise UnreadableFile(f"not JSON ({error}): expected {_EXPECTED}") from error
    if isinstance(answer, dict) and isinstance(answer.get("events"), list):
        answer = answer["events"]
    documents = answer if isinstance(answer, list) else [answer]
    others = [_object_type(document) for document in documents]
    is_mixed = not all(kind in _NO_EVENTS for kind in others)
    rows = [
        row
        for document, kind in zip(documents, others, strict=True)
        for row in (
            [{LEFT_OUT_REASON: f"a {kind}: no event"}]
            if kind in _NO_EVENTS and is_mixed
            else _document_rows(document, program_id)
        )
    ]
    tables = {"grid_events": pl.DataFrame(rows, schema=_SCHEMA, orient="row")}
    if program_id is not None:
        if not isinstance(answer, list):
            raise UnreadableFile(
                f"found one event in a folder full/, expected a list of all events of {program_id}:"
                " land the whole listing, or the event elsewhere below landing/openadr"
            )
        listing = {"program_id": program_id, "known_at": time_in_name(file_name)}
        schema = {name: _SCHEMA[name] for name in listing}
        tables["grid_event_listings"] = pl.DataFrame([listing], schema=schema)
    return tables


def _listed_program(file_name: str) -> str | None:
    """The program of which the file lists every event; null for other files."""
    parts = PurePosixPath(file_name).parts
    if "full" not in parts[:-1]:
        return None
    program_id = parts[parts.index("full") + 1]
    if program_id == parts[-1]:
        raise UnreadableFile(
            "found the file right below a folder full/, expected to know of which program it lists"
            " all events: move it to landing/openadr/full/<program>/"
        )
    return program_id


def _object_type(document: object) -> str | None:
    found = document.get("object", document) if isinstance(document, dict) else None
    return str(found.get("objectType")) if isinstance(found, dict) else None


def _document_rows(document: object, listed_program: str | None) -> Iterator[dict[str, Any]]:
    if not isinstance(document, dict):
        raise UnreadableFile(f"found '{str(document)[:40]}', expected {_EXPECTED}")
    event = document.get("object", document)
    if not isinstance(event, dict) or event.get("objectType", "EVENT") != "EVENT":
        raise UnreadableFile(f"objectType is not EVENT: expected {_EXPECTED}")
    if "intervals" not in event and "programID" not in event:
        raise UnreadableFile(f"an event has no intervals: expected {_EXPECTED}")
    event_id = _text(event.get("id"))
    row: dict[str, Any] = dict.fromkeys(_SCHEMA) | {
        "event_id": event_id,
        "whole_event_id": event_id,
        "program_id": _text(event.get("programID")) or listed_program,
        "is_cancelled": str(document.get("operation", "")).upper() == "DELETE",
    }
    try:
        changed = event.get("modificationDateTime") or event.get("createdDateTime")
        row["known_at"] = None if changed is None else _instant("modificationDateTime", changed)
        if event_id is None:
            raise _RejectedError("id is empty: expected the event's id")
        if listed_program is not None and row["program_id"] != listed_program:
            raise _RejectedError(
                f"programID '{row['program_id']}': expected {listed_program}, as the file's folder"
            )
        intervals = _intervals(event)
        targets = _targets(event)
        told = list(_interval_rows(event, event_id, intervals))
    except (_RejectedError, _LeftOutError) as problem:
        yield row | _problem(problem)
        return
    for of_interval in told:
        for target in targets:
            yield row | of_interval | {"target": target}


def _problem(problem: _RejectedError | _LeftOutError) -> dict[str, Any]:
    column = LEFT_OUT_REASON if isinstance(problem, _LeftOutError) else REJECT_REASON
    return {column: str(problem)}


def _intervals(event: dict[str, Any]) -> list[dict[str, Any]]:
    intervals = event.get("intervals") or []
    if not isinstance(intervals, list):
        raise _RejectedError(f"intervals {str(intervals)[:40]!r}: expected a list")
    is_report = bool(event.get("reportDescriptors")) and not any(
        interval.get("payloads") for interval in intervals if isinstance(interval, dict)
    )
    if is_report:
        raise _LeftOutError("the event asks for reports alone")
    if not intervals:
        raise _RejectedError("intervals is empty: expected at least one, or a DELETE notification")
    for interval in intervals:
        if not isinstance(interval, dict):
            raise _RejectedError(
                f"interval {str(interval)[:40]!r}: expected an object with payloads"
            )
    return intervals


def _interval_rows(
    event: dict[str, Any], event_id: str, intervals: list[dict[str, Any]]
) -> Iterator[dict[str, Any]]:
    """What each interval says: type, times and limit, or why it says nothing here."""
    spans = _spans(event, intervals)
    orders: list[_Order] = []
    for index, (interval, span) in enumerate(zip(intervals, spans, strict=True)):
        try:
            if isinstance(span, _RejectedError):
                raise span
            orders += _orders(event, interval, index, span)
        except (_RejectedError, _LeftOutError) as problem:
            yield _problem(problem)
    ids = [_text(interval.get("id")) for interval in intervals]
    if None in ids or len(set(ids)) < len(ids):
        ids = [str(index) for index in range(len(ids))]
    counts: Counter[int] = Counter()
    placed = list(_within_duration(event, orders, spans))
    is_alone = len(placed) == len(intervals) == 1
    for order in placed:
        if order is None:
            yield _problem(_LeftOutError("the interval begins after the event's duration"))
            continue
        nth = counts[order.interval]
        counts[order.interval] += 1
        part = f"{ids[order.interval]}.{nth}" if nth else ids[order.interval]
        yield {
            "event_id": event_id if is_alone else f"{event_id}#{part}",
            "event_type": order.event_type,
            "import_limit_kw": order.limit_kw,
            "started_at": order.span.started_at,
            "ended_at": order.span.ended_at,
        }


def _spans(event: dict[str, Any], intervals: list[dict[str, Any]]) -> list[_Span | _RejectedError]:
    """When each interval holds, or why that cannot be told."""
    spans: list[_Span | _RejectedError] = []
    default = event.get("intervalPeriod")
    start = default.get("start") if isinstance(default, dict) else None
    # An event without several intervals may tell its length once, for the whole of it.
    length = None if intervals[1:] else event.get("duration")
    for interval in intervals:
        period = interval.get("intervalPeriod")
        try:
            if not isinstance(period, dict) and not isinstance(default, dict):
                raise _RejectedError("intervalPeriod is missing on the interval and on the event")
            own = period if isinstance(period, dict) else {}
            common = default if isinstance(default, dict) else {}
            duration = own.get("duration") or common.get("duration") or length
            told = own.get("start")
            if told is not None and not str(told).startswith(_NOW):
                started_at = _instant("intervalPeriod.start", told)
            elif not spans:
                started_at = _first_start(event, start or told, duration)
            elif isinstance(spans[-1], _Span) and spans[-1].ended_at is not None:
                started_at = spans[-1].ended_at
            else:
                raise _RejectedError("it follows an interval whose end is not known")
            spans.append(_Span(started_at, _end(started_at, duration)))
        except _RejectedError as problem:
            spans.append(problem)
    return spans


def _first_start(event: dict[str, Any], told: object, duration: object) -> datetime:
    """Start of the first interval; "now" is when the event was created, if it has no end."""
    created = event.get("createdDateTime")
    is_now = str(told).startswith(_NOW)
    if is_now and created and _FOREVER in (duration, event.get("duration")):
        return _instant("createdDateTime", created)
    return _instant("intervalPeriod.start", told)


def _end(started_at: datetime, duration: object) -> datetime | None:
    if duration == _FOREVER:
        return None
    length = _length(duration)
    try:
        return started_at + length
    except OverflowError as error:
        raise _RejectedError(
            f"duration '{str(duration)[:40]}' ends beyond the year 9999"
        ) from error


def _orders(
    event: dict[str, Any], interval: dict[str, Any], index: int, span: _Span
) -> list[_Order]:
    """What one interval says; several values share its time evenly."""
    payloads = interval.get("payloads")
    if not isinstance(payloads, list):
        raise _RejectedError("payloads of an interval: expected a list")
    told = [payload for payload in payloads if isinstance(payload, dict)]
    types = [str(payload.get("type")) for payload in told]
    if _LIMIT not in types:
        if any(name.startswith("ALERT_") for name in types):
            return [_Order(index, "alert", None, span)]
        found = f"payload types {', '.join(types)[:80] or 'none'}"
        if types and all(_NO_ORDER.fullmatch(name) for name in types):
            raise _LeftOutError(f"{found}: no limit of import")
        raise _RejectedError(f"{found}: expected {_LIMIT} or ALERT_*")
    if types.count(_LIMIT) > 1:
        raise _RejectedError(f"{types.count(_LIMIT)} payloads of {_LIMIT}: expected one")
    limits = _limits_kw(event, told[types.index(_LIMIT)].get("values"))
    if len(limits) == 1:
        return [_Order(index, "curtailment_order", limits[0], span)]
    if span.ended_at is None:
        raise _RejectedError(
            f"{len(limits)} values of {_LIMIT} in an interval without end: expected one"
        )
    whole = span.ended_at - span.started_at
    edges = [span.started_at + whole * nth / len(limits) for nth in range(len(limits) + 1)]
    return [
        _Order(index, "curtailment_order", limit, _Span(*edges[nth : nth + 2]))
        for nth, limit in enumerate(limits)
    ]


def _within_duration(
    event: dict[str, Any], orders: list[_Order], spans: list[_Span | _RejectedError]
) -> Iterator[_Order | None]:
    """The orders, cut off or repeated as the event's own duration says; None where all is cut."""
    duration = event.get("duration")
    # Servers fill in PT0S, the default of the field, where nothing was told.
    if duration in (None, "", "PT0S", "P0D") or not orders:
        yield from orders
        return
    known = [span for span in spans if isinstance(span, _Span)]
    if len(known) < len(spans):
        raise _RejectedError(f"duration '{duration}' of an event with an interval without times")
    first = min(span.started_at for span in known)
    last = max(span.ended_at or _LAST for span in known)
    until = _end(first, duration) or _LAST
    if len(orders) == len(spans) == 1:
        orders = [orders[0]._replace(span=_Span(first, None if until == _LAST else until))]
        last = until
    rounds = -((first - until) // (last - first))
    if rounds * len(orders) > _MOST_PARTS or (until == _LAST and rounds > 1):
        raise _RejectedError(
            f"duration '{duration}' repeats {len(spans)} intervals without end, or for too long:"
            f" expected at most {_MOST_PARTS} in all; ask for events that end"
        )
    for nth in range(rounds):
        later = nth * (last - first)
        for order in orders:
            ended_at = min(order.span.ended_at or _LAST, until - later)
            if order.span.started_at < ended_at:
                end = None if ended_at == _LAST else ended_at + later
                yield order._replace(span=_Span(order.span.started_at + later, end))
            elif nth == 0:
                yield None


def _limits_kw(event: dict[str, Any], values: object) -> list[float]:
    descriptors = event.get("payloadDescriptors") or []
    units = [
        str(descriptor.get("units") or "").upper()
        for descriptor in (descriptors if isinstance(descriptors, list) else [])
        if isinstance(descriptor, dict) and descriptor.get("payloadType") == _LIMIT
    ]
    unit = units[0] if units else ""
    if unit not in _KW_PER_UNIT:
        raise _RejectedError(
            f"units '{unit[:20]}' of {_LIMIT} in payloadDescriptors: expected KW or MW"
        )
    limits = []
    for value in values if isinstance(values, list) and values else [None]:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if value is None or not is_number or not 0 <= value <= _LARGEST_LIMIT:
            raise _RejectedError(f"{_LIMIT} {str(value)[:40]!r}: expected a number, at least 0")
        limits.append(float(value) * _KW_PER_UNIT[unit])
    return limits


def _length(duration: object) -> timedelta:
    found = _DURATION.match(duration) if isinstance(duration, str) else None
    if found is None:
        raise _RejectedError(f"duration '{str(duration)[:40]}': expected ISO 8601 such as PT3H30M")
    weeks, days, hours, minutes, seconds = (float(part or 0) for part in found.groups())
    length = timedelta(weeks=weeks, days=days, hours=hours, minutes=minutes, seconds=seconds)
    if length <= timedelta(0):
        raise _RejectedError(f"duration '{duration}': expected more than nothing")
    return length


def _instant(name: str, told: object) -> datetime:
    if not isinstance(told, str) or not _UTC_FORM.match(told):
        raise _RejectedError(f"{name} '{str(told)[:40]}': expected a time with Z or an offset")
    if told.startswith(_NOW):
        raise _RejectedError(
            f"{name} '{told}' means now, which a file does not tell: expected a time"
        )
    try:
        return datetime.fromisoformat(told)
    except (ValueError, OverflowError) as error:
        raise _RejectedError(
            f"{name} '{told[:40]}': expected a time with Z or an offset"
        ) from error


def _targets(event: dict[str, Any]) -> list[str]:
    told = event.get("targets") or []
    if not isinstance(told, list):
        raise _RejectedError(f"targets {str(told)[:40]!r}: expected a list")
    names = []
    for target in told:
        if isinstance(target, dict):
            values = target.get("values")
            names += values if isinstance(values, list) else [None]
        else:
            names.append(target)
    names = names or [event.get("programID")]
    if not all(isinstance(name, str) and name for name in names):
        raise _RejectedError(f"targets {str(told)[:80]!r} and programID: expected names")
    return list(dict.fromkeys(names))


def _text(value: object) -> str | None:
    return str(value)[:200] if isinstance(value, str | int) and str(value) else None
