import copy
import json
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from pipelines.connectors import openadr
from pipelines.connectors.common import UnreadableFile
from pipelines.simulator.writers.openadr import write_event
from tests.connectors.grid_fixtures import CONTEXT, accepted, assert_fits_raw_table, reasons

START = datetime(2026, 8, 20, 20, tzinfo=UTC)
CHANGED = datetime(2026, 8, 20, 18, tzinfo=UTC)
EVENT = {
    "id": "order-7",
    "createdDateTime": "2026-08-20T17:00:00Z",
    "modificationDateTime": "2026-08-20T18:00:00Z",
    "objectType": "EVENT",
    "programID": "load-control",
    "targets": ["FRK-POI"],
    "payloadDescriptors": [{"payloadType": "IMPORT_CAPACITY_LIMIT", "units": "KW"}],
    "intervalPeriod": {"start": "2026-08-20T20:00:00Z", "duration": "PT3H30M"},
    "intervals": [{"id": 0, "payloads": [{"type": "IMPORT_CAPACITY_LIMIT", "values": [22000]}]}],
}
ORDER = (
    "order-7",
    "order-7",
    "FRK-POI",
    "curtailment_order",
    START,
    START + timedelta(hours=3, minutes=30),
    22000.0,
    False,
    CHANGED,
    None,
)


def read(document):
    content = document if isinstance(document, bytes) else json.dumps(document).encode()
    frame = openadr.read(content, file_name="x.json", context=CONTEXT)["grid_events"]
    assert_fits_raw_table(frame, "grid_events")
    return frame


def event(**changes):
    return copy.deepcopy(EVENT) | changes


@pytest.mark.parametrize("document", [EVENT, [EVENT], {"events": [EVENT]}])
def test_an_import_limit_is_a_curtailment_order(document):
    assert read(document).rows() == [ORDER]


def test_megawatts_become_kilowatts():
    descriptors = [{"payloadType": "IMPORT_CAPACITY_LIMIT", "units": "MW"}]
    intervals = [{"id": 0, "payloads": [{"type": "IMPORT_CAPACITY_LIMIT", "values": [22]}]}]

    assert read(event(payloadDescriptors=descriptors, intervals=intervals)).rows() == [ORDER]


def test_targets_of_version_3_0_and_of_the_program_are_understood():
    old = [{"type": "GROUP", "values": ["A", "B"]}, {"type": "RESOURCE_NAME", "values": ["C"]}]

    assert read(event(targets=old))["target"].to_list() == ["A", "B", "C"]
    assert read(event(targets=None))["target"].to_list() == ["load-control"]


def test_an_alert_has_no_limit():
    intervals = [{"id": 0, "payloads": [{"type": "ALERT_GRID_EMERGENCY", "values": ["EEA 3"]}]}]

    frame = read(event(intervals=intervals, payloadDescriptors=None))

    assert frame.select("event_type", "import_limit_kw").rows() == [("alert", None)]


def test_each_of_several_intervals_has_its_own_period_or_the_events():
    limit = {"payloads": [{"type": "IMPORT_CAPACITY_LIMIT", "values": [5]}]}
    late = {"start": "2026-08-21T00:00:00+02:00", "duration": "PT90M"}

    frame = read(event(intervals=[{"id": 3, **limit}, {"id": 4, "intervalPeriod": late, **limit}]))

    assert frame.select("event_id", "whole_event_id", "started_at", "ended_at").rows() == [
        ("order-7#3", "order-7", START, START + timedelta(hours=3, minutes=30)),
        (
            "order-7#4",
            "order-7",
            START + timedelta(hours=2),
            START + timedelta(hours=3, minutes=30),
        ),
    ]


def test_a_duration_of_9999_years_is_an_open_end():
    frame = read(event(intervalPeriod={"start": "2026-08-20T20:00:00Z", "duration": "P9999Y"}))

    assert frame.select("started_at", "ended_at").rows() == [(START, None)]


def test_a_delete_notification_cancels_the_event():
    frame = read({"objectType": "EVENT", "operation": "DELETE", "object": EVENT})

    assert frame.rows() == [(*ORDER[:7], True, *ORDER[8:])]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (
            {"intervals": []},
            "intervals is empty: expected at least one, or a DELETE notification",
        ),
        (
            {"payloadDescriptors": []},
            "units '' of IMPORT_CAPACITY_LIMIT in payloadDescriptors: expected KW or MW",
        ),
        (
            {"intervals": [{"payloads": [{"type": "PRICE", "values": [1]}]}]},
            "payload types PRICE: expected IMPORT_CAPACITY_LIMIT or ALERT_*",
        ),
        (
            {"intervalPeriod": {"start": "2026-08-20T20:00:00", "duration": "PT1H"}},
            "intervalPeriod.start '2026-08-20T20:00:00': expected a time with Z or an offset",
        ),
        (
            {"intervalPeriod": {"start": "0001-01-01T00:00:00Z", "duration": "PT1H"}},
            "intervalPeriod.start '0001-01-01T00:00:00Z' means now, which a file does not tell: "
            "expected a time",
        ),
        (
            {"intervalPeriod": {"start": "2026-08-20T20:00:00Z", "duration": "1 hour"}},
            "duration '1 hour': expected ISO 8601 such as PT3H30M",
        ),
        (
            {"intervals": [{"payloads": [{"type": "IMPORT_CAPACITY_LIMIT", "values": ["x"]}]}]},
            "IMPORT_CAPACITY_LIMIT 'x': expected a number, at least 0",
        ),
        ({"id": None}, "id is empty: expected the event's id"),
        ({"intervalPeriod": None}, "intervalPeriod is missing on the interval and on the event"),
    ],
)
def test_what_cannot_be_understood_is_rejected_with_the_reason(changes, reason):
    frame = read([event(**changes), EVENT])

    assert reasons(frame) == [reason]
    assert accepted(frame)["event_id"].to_list() == ["order-7"]


@pytest.mark.parametrize(
    "content", [b"[1]", b'{"objectType": "PROGRAM", "intervals": []}', b"{}", b"7", b"{"]
)
def test_json_without_an_event_is_unreadable(content):
    with pytest.raises(UnreadableFile, match="an OpenADR 3 event, a list of events"):
        read(content)


@settings(max_examples=50, deadline=None)
@given(
    event_type=st.sampled_from(["curtailment_order", "alert"]),
    targets=st.lists(st.text(min_size=1, max_size=9), min_size=1, max_size=3, unique=True),
    start_s=st.integers(0, 2_000_000_000),
    length_s=st.none() | st.integers(1, 10_000_000),
    limit=st.floats(0, 1e6, allow_nan=False),
    is_cancelled=st.booleans(),
)
def test_what_the_writer_writes_is_read_back(
    event_type, targets, start_s, length_s, limit, is_cancelled
):
    start = datetime.fromtimestamp(start_s, UTC)
    rows = pl.DataFrame(
        [
            (
                "order-7",
                target,
                event_type,
                start,
                None if length_s is None else start + timedelta(seconds=length_s),
                limit if event_type == "curtailment_order" else None,
                is_cancelled,
                CHANGED,
            )
            for target in targets
        ],
        schema={
            "event_id": pl.String,
            "target": pl.String,
            "event_type": pl.String,
            "started_at": pl.Datetime("us", "UTC"),
            "ended_at": pl.Datetime("us", "UTC"),
            "import_limit_kw": pl.Float64,
            "is_cancelled": pl.Boolean,
            "known_at": pl.Datetime("us", "UTC"),
        },
        orient="row",
    )

    back = read(write_event(rows))

    assert reasons(back) == []
    assert_frame_equal(accepted(back).drop("whole_event_id"), rows)


def test_the_writer_writes_the_fields_of_an_openadr_3_1_event():
    rows = read(EVENT).drop("reject_reason")

    assert json.loads(write_event(rows)) == {
        "id": "order-7",
        "createdDateTime": "2026-08-20T18:00:00Z",
        "modificationDateTime": "2026-08-20T18:00:00Z",
        "objectType": "EVENT",
        "programID": "grid-operator",
        "eventName": "curtailment_order",
        "priority": 0,
        "targets": ["FRK-POI"],
        "payloadDescriptors": [
            {
                "objectType": "EVENT_PAYLOAD_DESCRIPTOR",
                "payloadType": "IMPORT_CAPACITY_LIMIT",
                "units": "KW",
            }
        ],
        "intervalPeriod": {"start": "2026-08-20T20:00:00Z", "duration": "PT12600S"},
        "intervals": [
            {"id": 0, "payloads": [{"type": "IMPORT_CAPACITY_LIMIT", "values": [22000.0]}]}
        ],
    }


def test_the_writer_refuses_what_openadr_cannot_say():
    outage = read(EVENT).drop("reject_reason").with_columns(event_type=pl.lit("grid_outage"))

    with pytest.raises(ValueError, match="no payload for a grid_outage"):
        write_event(outage)
