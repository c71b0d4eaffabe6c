"""OpenADR 3.1 event from the rows of one grid event.

What belongs here: the JSON of an event, or of the notification that deletes it. What does not: when
events happen (the simulator), reading (`connectors/openadr.py`).
"""

import json
from datetime import UTC, datetime, timedelta

import polars as pl

_PAYLOAD_TYPE = {"curtailment_order": "IMPORT_CAPACITY_LIMIT", "alert": "ALERT_GRID_EMERGENCY"}
_FOREVER = "P9999Y"


def write_event(grid_events: pl.DataFrame) -> bytes:
    """Write the rows of one event, which differ in their target alone, as one OpenADR 3.1 event.

    A cancelled event becomes the DELETE notification of it, as a VTN sends to its subscribers.
    `modificationDateTime` is `known_at` where the frame has it, else the start of the event.

    Raises:
        ValueError: when the rows are not of one event, or it is a `grid_outage`, for which OpenADR
            has no payload.
    """
    about = ["event_id", "event_type", "started_at", "ended_at", "import_limit_kw", "is_cancelled"]
    distinct = grid_events.select(about).unique()
    if distinct.height != 1:
        raise ValueError(f"expected the rows of one event, found {distinct.height} different ones")
    event = distinct.row(0, named=True)
    if event["event_type"] not in _PAYLOAD_TYPE:
        raise ValueError(f"OpenADR has no payload for a {event['event_type']}: use outages_csv")
    payload_type = _PAYLOAD_TYPE[event["event_type"]]
    known_at = grid_events["known_at"][0] if "known_at" in grid_events.columns else None
    changed = _instant(known_at or event["started_at"])
    limit = event["import_limit_kw"]
    descriptor = {"objectType": "EVENT_PAYLOAD_DESCRIPTOR", "payloadType": payload_type}
    document = {
        "id": event["event_id"],
        "createdDateTime": changed,
        "modificationDateTime": changed,
        "objectType": "EVENT",
        "programID": "grid-operator",
        "eventName": event["event_type"],
        "priority": 0,
        "targets": grid_events["target"].to_list(),
        "payloadDescriptors": [descriptor | ({} if limit is None else {"units": "KW"})],
        "intervalPeriod": {
            "start": _instant(event["started_at"]),
            "duration": _duration(event["started_at"], event["ended_at"]),
        },
        "intervals": [
            {
                "id": 0,
                "payloads": [
                    {"type": payload_type, "values": ["Alert" if limit is None else limit]}
                ],
            }
        ],
    }
    if event["is_cancelled"]:
        document = {"objectType": "EVENT", "operation": "DELETE", "object": document}
    return json.dumps(document, indent=2).encode()


def _instant(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def _duration(start: datetime, end: datetime | None) -> str:
    """ISO 8601 duration; OpenADR writes an open end as 9999 years."""
    return _FOREVER if end is None else f"PT{(end - start) // timedelta(seconds=1)}S"
