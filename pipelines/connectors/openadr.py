"""OpenADR 3 events: curtailment orders and grid alerts.

What belongs here: reading events in the JSON of OpenADR 3.0 and 3.1. What does not: prices and
other payloads, and which site a target is (`grid_event_target` in data/reference).

A file holds one event, a list of events, an object with a list `events`, or notifications of them.
IMPORT_CAPACITY_LIMIT becomes a curtailment_order, in KW or MW as `payloadDescriptors` say; ALERT_*
becomes an alert. Targets are 3.1's list of names or 3.0's list of type and values; an event
without targets is for its whole program, so `programID` is the target. An interval without a
period of its own takes the event's; P9999Y means open end. With several intervals each has the id
`event#interval`. A version of an event tells all its intervals and targets: what the one before
had beyond it no longer holds, and `whole_event_id` says which rows belong together.

OpenADR has no cancelled state: a VTN deletes the event and notifies its subscribers with operation
DELETE. Such a notification, in which the event stands as it was, cancels it. An event with an empty
list of intervals says nothing and is rejected; it does not cancel.
"""

import json
import re
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import polars as pl

from pipelines.connectors.common import REJECT_REASON, Context, Tables, UnreadableFile
from pipelines.connectors.parsing import UTC_TIME, decode

_EXPECTED = "an OpenADR 3 event, a list of events or a notification of one (JSON)"
_LIMIT = "IMPORT_CAPACITY_LIMIT"
_KW_PER_UNIT = {"KW": 1.0, "MW": 1000.0}
_LARGEST_LIMIT = 1e12
_FOREVER = "P9999Y"
_DURATION = re.compile(
    r"P(?:(\d{1,6})W)?(?:(\d{1,6})D)?"
    r"(?:T(?:(\d{1,7})H)?(?:(\d{1,9})M)?(?:(\d{1,9}(?:\.\d{1,6})?)S)?)?\Z"
)
_UTC_FORM = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d{1,6})?)?(Z|[+-]\d\d:?\d\d)\Z")
_SCHEMA: dict[str, pl.DataType | type[pl.DataType]] = {
    "event_id": pl.String,
    "whole_event_id": pl.String,
    "target": pl.String,
    "event_type": pl.String,
    "started_at": UTC_TIME,
    "ended_at": UTC_TIME,
    "import_limit_kw": pl.Float64,
    "is_cancelled": pl.Boolean,
    "known_at": UTC_TIME,
    REJECT_REASON: pl.String,
}


class _RejectedError(ValueError):
    """Why an event or interval is rejected."""


def read(content: bytes, *, file_name: str, context: Context) -> Tables:
    """Read grid events, one row per target and interval of each event.

    Raises:
        UnreadableFile: when the JSON is not such an answer.
    """
    del file_name, context
    try:
        answer = json.loads(decode(content, expected=_EXPECTED))
    except (json.JSONDecodeError, RecursionError, ValueError) as error:
        if isinstance(error, UnreadableFile):
            raise
        raise UnreadableFile(f"not JSON ({error}): expected {_EXPECTED}") from error
    if isinstance(answer, dict) and isinstance(answer.get("events"), list):
        answer = answer["events"]
    documents = answer if isinstance(answer, list) else [answer]
    rows = [row for document in documents for row in _document_rows(document)]
    return {"grid_events": pl.DataFrame(rows, schema=_SCHEMA, orient="row")}


def _document_rows(document: object) -> Iterator[dict[str, Any]]:
    if not isinstance(document, dict):
        raise UnreadableFile(f"found {str(document)[:40]!r} in place of an event: {_EXPECTED}")
    event = document.get("object", document)
    if not isinstance(event, dict) or event.get("objectType", "EVENT") != "EVENT":
        raise UnreadableFile(f"objectType is not EVENT: expected {_EXPECTED}")
    if "intervals" not in event:
        raise UnreadableFile(f"an event has no intervals: expected {_EXPECTED}")
    is_cancelled = str(document.get("operation", "")).upper() == "DELETE"
    event_id = _text(event.get("id"))
    row: dict[str, Any] = dict.fromkeys(_SCHEMA) | {
        "event_id": event_id,
        "whole_event_id": event_id,
        "is_cancelled": is_cancelled,
    }
    try:
        changed = event.get("modificationDateTime") or event.get("createdDateTime")
        row["known_at"] = None if changed is None else _instant("modificationDateTime", changed)
        if event_id is None:
            raise _RejectedError("id is empty: expected the event's id")
        intervals = event["intervals"]
        if not isinstance(intervals, list) or not intervals:
            raise _RejectedError(
                "intervals is empty: expected at least one, or a DELETE notification"
            )
        targets = _targets(event)
    except _RejectedError as problem:
        yield row | {REJECT_REASON: str(problem)}
        return
    for index, interval in enumerate(intervals):
        try:
            told = _interval(event, interval)
            if len(intervals) > 1:
                told["event_id"] = f"{event_id}#{_text(interval.get('id')) or index}"
        except _RejectedError as problem:
            told = {REJECT_REASON: str(problem)}
        for target in targets:
            yield row | told | {"target": target}


def _interval(event: dict[str, Any], interval: object) -> dict[str, Any]:
    """What one interval says: type, times and limit."""
    if not isinstance(interval, dict):
        raise _RejectedError(f"interval {str(interval)[:40]!r}: expected an object with payloads")
    payloads = interval.get("payloads")
    if not isinstance(payloads, list):
        raise _RejectedError("payloads of an interval: expected a list")
    by_type = {
        str(payload.get("type")): payload.get("values")
        for payload in payloads
        if isinstance(payload, dict)
    }
    if _LIMIT in by_type:
        event_type, limit = "curtailment_order", _limit_kw(event, by_type[_LIMIT])
    elif any(name.startswith("ALERT_") for name in by_type):
        event_type, limit = "alert", None
    else:
        found = ", ".join(by_type)[:80] or "none"
        raise _RejectedError(f"payload types {found}: expected {_LIMIT} or ALERT_*")
    started_at, ended_at = _span(event, interval)
    return {
        "event_type": event_type,
        "import_limit_kw": limit,
        "started_at": started_at,
        "ended_at": ended_at,
    }


def _limit_kw(event: dict[str, Any], values: object) -> float:
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
    value = values[0] if isinstance(values, list) and values else None
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if value is None or not is_number or not 0 <= value <= _LARGEST_LIMIT:
        raise _RejectedError(f"{_LIMIT} {str(value)[:40]!r}: expected a number, at least 0")
    return float(value) * _KW_PER_UNIT[unit]


def _span(event: dict[str, Any], interval: dict[str, Any]) -> tuple[datetime, datetime | None]:
    """Start and end of an interval; null for an open end."""
    period = interval.get("intervalPeriod") or event.get("intervalPeriod")
    if not isinstance(period, dict):
        raise _RejectedError("intervalPeriod is missing on the interval and on the event")
    started_at = _instant("intervalPeriod.start", period.get("start"))
    duration = period.get("duration") or event.get("duration")
    if duration == _FOREVER:
        return started_at, None
    length = _length(duration)
    try:
        ended_at = started_at + length
    except OverflowError as error:
        raise _RejectedError(
            f"duration '{str(duration)[:40]}' ends beyond the year 9999"
        ) from error
    return started_at, ended_at


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
    if told.startswith("0001-01-01"):
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
