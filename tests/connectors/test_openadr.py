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
from tests.connectors.grid_fixtures import (
    CONTEXT,
    accepted,
    assert_fits_raw_table,
    left_out,
    reasons,
)

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
    "load-control",
    "FRK-POI",
    "curtailment_order",
    START,
    START + timedelta(hours=3, minutes=30),
    22000.0,
    False,
    CHANGED,
)


def limits(*values):
    return {"payloads": [{"type": "IMPORT_CAPACITY_LIMIT", "values": list(values)}]}


def read(document):
    content = document if isinstance(document, bytes) else json.dumps(document).encode()
    frame = openadr.read(content, file_name="x.json", context=CONTEXT)["grid_events"]
    assert_fits_raw_table(frame, "grid_events")
    return frame


def event(**changes):
    return copy.deepcopy(EVENT) | changes


@pytest.mark.parametrize("document", [EVENT, [EVENT], {"events": [EVENT]}])
def test_an_import_limit_is_a_curtailment_order(document):
    assert accepted(read(document)).rows() == [ORDER]


def test_megawatts_become_kilowatts():
    descriptors = [{"payloadType": "IMPORT_CAPACITY_LIMIT", "units": "MW"}]
    intervals = [{"id": 0, "payloads": [{"type": "IMPORT_CAPACITY_LIMIT", "values": [22]}]}]

    frame = read(event(payloadDescriptors=descriptors, intervals=intervals))

    assert accepted(frame).rows() == [ORDER]


def test_targets_of_version_3_0_and_of_the_program_are_understood():
    old = [{"type": "GROUP", "values": ["A", "B"]}, {"type": "RESOURCE_NAME", "values": ["C"]}]

    assert read(event(targets=old))["target"].to_list() == ["A", "B", "C"]
    assert read(event(targets=None))["target"].to_list() == ["load-control"]


def test_an_alert_has_no_limit():
    intervals = [{"id": 0, "payloads": [{"type": "ALERT_GRID_EMERGENCY", "values": ["EEA 3"]}]}]

    frame = read(event(intervals=intervals, payloadDescriptors=None))

    assert frame.select("event_type", "import_limit_kw").rows() == [("alert", None)]


def spans(frame):
    """Id, hours from START to beginning and end, and kW of each row."""
    return [
        (name, *(at and (at - START) / timedelta(hours=1) for at in times), limit)
        for name, *times, limit in accepted(frame)
        .select("event_id", "started_at", "ended_at", "import_limit_kw")
        .rows()
    ]


HOURLY = {"start": "2026-08-20T20:00:00Z", "duration": "PT1H"}


def test_intervals_without_a_period_of_their_own_follow_one_another():
    frame = read(event(intervalPeriod=HOURLY, intervals=[limits(100), limits(80), limits(60)]))

    assert spans(frame) == [
        ("order-7#0", 0, 1, 100),
        ("order-7#1", 1, 2, 80),
        ("order-7#2", 2, 3, 60),
    ]
    assert accepted(frame)["whole_event_id"].unique().to_list() == ["order-7"]


def test_start_and_duration_of_an_interval_override_those_of_the_event_one_by_one():
    own_length = {"duration": "PT2H"}
    own_start = {"start": "2026-08-21T02:00:00+02:00"}
    at_once = {"start": "0001-01-01T00:00:00", "duration": "PT30M"}
    intervals = [
        {"id": 7, **limits(5)},
        {"id": 8, "intervalPeriod": own_length, **limits(4)},
        {"id": 6, "intervalPeriod": own_start, **limits(3)},
        {"id": 5, "intervalPeriod": at_once, **limits(2)},
    ]

    assert spans(read(event(intervalPeriod=HOURLY, intervals=intervals))) == [
        ("order-7#7", 0, 1, 5),
        ("order-7#8", 1, 3, 4),
        ("order-7#6", 4, 5, 3),
        ("order-7#5", 5, 5.5, 2),
    ]


def test_without_a_period_of_the_event_each_interval_has_its_own():
    intervals = [{"id": 0, "intervalPeriod": HOURLY, **limits(5)}, {"id": 1, **limits(4)}]

    frame = read(event(intervalPeriod=None, intervals=intervals))

    assert spans(frame) == [("order-7#0", 0, 1, 5)]
    assert reasons(frame) == ["intervalPeriod is missing on the interval and on the event"]


def test_what_follows_an_interval_without_end_cannot_be_placed():
    intervals = [{"intervalPeriod": {"duration": "P9999Y"}, **limits(5)}, limits(4)]

    frame = read(event(intervals=intervals))

    assert spans(frame) == [("order-7#0", 0, None, 5)]
    assert reasons(frame) == ["it follows an interval whose end is not known"]


def test_an_interval_with_another_payload_is_left_out_and_takes_its_time():
    price = {"payloads": [{"type": "PRICE", "values": [0.17]}]}

    frame = read(event(intervalPeriod=HOURLY, intervals=[price, limits(5)]))

    assert spans(frame) == [("order-7#1", 1, 2, 5)]
    assert left_out(frame) == ["payload types PRICE: no limit of import"]
    assert reasons(frame) == []


def test_equal_ids_of_intervals_do_not_make_one_of_them():
    intervals = [{"id": 0, **limits(5)}, {"id": 0, **limits(4)}]

    frame = read(event(intervalPeriod=HOURLY, intervals=intervals))

    assert spans(frame) == [("order-7#0", 0, 1, 5), ("order-7#1", 1, 2, 4)]


def test_several_values_share_the_time_of_their_interval():
    frame = read(event(intervals=[limits(9, 8)]))

    assert spans(frame) == [("order-7#0", 0, 1.75, 9), ("order-7#0.1", 1.75, 3.5, 8)]


@pytest.mark.parametrize(
    ("duration", "found"),
    [
        ("PT0S", [("order-7#0", 0, 1, 5), ("order-7#1", 1, 2, 4)]),
        ("PT90M", [("order-7#0", 0, 1, 5), ("order-7#1", 1, 1.5, 4)]),
        (
            "PT3H",
            [("order-7#0", 0, 1, 5), ("order-7#1", 1, 2, 4), ("order-7#0.1", 2, 3, 5)],
        ),
    ],
)
def test_the_duration_of_an_event_cuts_its_intervals_off_or_repeats_them(duration, found):
    intervals = [limits(5), limits(4)]

    frame = read(event(duration=duration, intervalPeriod=HOURLY, intervals=intervals))

    assert spans(frame) == found
    assert (reasons(frame), left_out(frame)) == ([], [])


def test_an_interval_after_the_end_of_its_event_is_left_out():
    frame = read(event(duration="PT1H", intervalPeriod=HOURLY, intervals=[limits(5), limits(4)]))

    assert spans(frame) == [("order-7#0", 0, 1, 5)]
    assert left_out(frame) == ["the interval begins after the event's duration"]


@settings(max_examples=100, deadline=None)
@given(
    periods=st.lists(
        st.none()
        | st.fixed_dictionaries(
            {},
            optional={
                "start": st.sampled_from(
                    ["2026-08-20T23:00:00Z", "0001-01-01", "9999-12-31T00:00:00Z"]
                ),
                "duration": st.sampled_from(["PT1H", "PT90M", "P9999Y", "PT0S", "P3000W", "x"]),
            },
        ),
        min_size=1,
        max_size=4,
    ),
    duration=st.sampled_from([None, "PT0S", "PT30M", "PT5H", "P9999Y", "P400000W", "y"]),
    values=st.lists(st.integers(1, 9), min_size=1, max_size=3),
)
def test_any_periods_give_rows_that_fit_or_reasons(periods, duration, values):
    intervals = [
        limits(*values) | ({} if period is None else {"intervalPeriod": period})
        for period in periods
    ]

    frame = read(event(intervalPeriod=HOURLY, duration=duration, intervals=intervals))

    assert len(frame) >= 1
    assert accepted(frame)["event_id"].is_unique().all()


def test_several_intervals_that_repeat_for_ever_are_rejected():
    frame = read(event(duration="P9999Y", intervalPeriod=HOURLY, intervals=[limits(5), limits(4)]))

    assert spans(frame) == []
    assert reasons(frame) == [
        "duration 'P9999Y' repeats 2 intervals without end, or for too long: expected at most "
        "10000 in all; ask for events that end"
    ]


@pytest.mark.parametrize("duration", ["P9999Y", "PT2H"])
def test_one_interval_is_as_long_as_its_event(duration):
    period = {"start": HOURLY["start"]}
    end = None if duration == "P9999Y" else 2

    for told in (HOURLY, period):
        frame = read(event(duration=duration, intervalPeriod=told, intervals=[limits(5)]))
        assert spans(frame) == [("order-7", 0, end, 5)]


def test_an_order_from_now_on_without_end_holds_since_the_event_was_created():
    frame = read(event(intervalPeriod={"start": "0001-01-01", "duration": "P9999Y"}))

    assert spans(frame) == [("order-7", -3, None, 22000)]


def test_what_is_no_event_beside_one_is_left_out():
    report = {"objectType": "REPORT", "operation": "CREATE", "object": {"objectType": "REPORT"}}

    frame = read([report, {"operation": "CREATE", "object": EVENT}])

    assert left_out(frame) == ["a REPORT: no event"]
    assert accepted(frame).rows() == [ORDER]


@pytest.mark.parametrize("intervals", [[], None, [{"id": 0, "payloads": []}]])
def test_an_event_that_asks_for_reports_alone_is_left_out(intervals):
    frame = read([event(intervals=intervals, reportDescriptors=[{"payloadType": "USAGE"}]), EVENT])

    assert left_out(frame) == ["the event asks for reports alone"]
    assert accepted(frame).rows() == [ORDER]


def test_a_duration_of_9999_years_is_an_open_end():
    frame = read(event(intervalPeriod={"start": "2026-08-20T20:00:00Z", "duration": "P9999Y"}))

    assert frame.select("started_at", "ended_at").rows() == [(START, None)]


def test_a_delete_notification_cancels_the_event():
    frame = read({"objectType": "EVENT", "operation": "DELETE", "object": EVENT})

    assert accepted(frame).rows() == [(*ORDER[:8], True, CHANGED)]


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
            {"intervals": [{"payloads": [{"type": "SIMPLE", "values": [1]}]}]},
            "payload types SIMPLE: expected IMPORT_CAPACITY_LIMIT or ALERT_*",
        ),
        (
            {"intervals": [{"payloads": [*limits(5)["payloads"], *limits(4)["payloads"]]}]},
            "2 payloads of IMPORT_CAPACITY_LIMIT: expected one",
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


def listed(events, name="full/load-control/a.json"):
    tables = openadr.read(json.dumps(events).encode(), file_name=name, context=CONTEXT)
    for table, frame in tables.items():
        assert_fits_raw_table(frame, table)
    return tables


@pytest.mark.parametrize(
    ("name", "at"),
    [
        ("full/load-control/a.json", None),
        ("utility/full/load-control/2026/a_20260820T190000Z.json", START - timedelta(hours=1)),
    ],
)
def test_a_file_in_a_folder_full_lists_every_event_of_its_program(name, at):
    tables = listed([EVENT], name)

    assert accepted(tables["grid_events"]).rows() == [ORDER]
    assert tables["grid_event_listings"].rows() == [("load-control", at)]


def test_a_listing_may_be_empty_and_other_files_are_none():
    tables = listed([])

    assert len(tables["grid_events"]) == 0
    assert tables["grid_event_listings"]["program_id"].to_list() == ["load-control"]
    assert list(listed([EVENT], "load-control/a.json")) == ["grid_events"]


def test_an_event_of_another_program_than_the_listings_is_rejected():
    tables = listed([EVENT, event(programID="other"), event(programID=None)])

    assert reasons(tables["grid_events"]) == [
        "programID 'other': expected load-control, as the file's folder"
    ]
    assert accepted(tables["grid_events"])["program_id"].to_list() == ["load-control"] * 2


@pytest.mark.parametrize(
    ("name", "events", "message"),
    [
        ("full/a.json", [EVENT], "right below a folder full/"),
        ("full/load-control/a.json", EVENT, "found one event in a folder full/"),
    ],
)
def test_a_listing_says_of_what_and_is_one(name, events, message):
    with pytest.raises(UnreadableFile, match=message):
        listed(events, name)


@pytest.mark.parametrize(
    "content", [b"[1]", b'{"objectType": "PROGRAM", "intervals": []}', b"{}", b"7", b"{"]
)
def test_json_without_an_event_is_unreadable(content):
    with pytest.raises(UnreadableFile, match="expected an OpenADR 3 event, a list of events"):
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
    assert_frame_equal(accepted(back).drop("whole_event_id", "program_id"), rows)


def test_the_writer_writes_the_fields_of_an_openadr_3_1_event():
    rows = accepted(read(EVENT))

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
    outage = accepted(read(EVENT)).with_columns(event_type=pl.lit("grid_outage"))

    with pytest.raises(ValueError, match="no payload for a grid_outage"):
        write_event(outage)
