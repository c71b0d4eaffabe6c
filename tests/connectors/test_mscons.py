from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.connectors import mscons
from pipelines.connectors.common import UnreadableFile
from tests.connectors.grid_fixtures import (
    CONTEXT,
    accepted,
    assert_fits_raw_table,
    left_out,
    reasons,
)
from tests.real_files import real_file

START = datetime(2026, 5, 4, 8, tzinfo=UTC)
QUARTER = timedelta(minutes=15)
KNOWN = datetime(2026, 5, 5, 6, tzinfo=UTC)
TIMES = ("DTM+163:202605041000?+02:303", "DTM+164:202605041015?+02:303")
READ = ("DTM+9:202605041000?+02:303",)


def interchange(*segments, una="UNA:+.? ", test="", function="9", known="202605050800?+02:303"):
    return "'".join(
        [
            *([una] if una else []),
            f"UNB+UNOC:3+S:500+R:500+260505:0800+REF++TL++++{test}",
            "UNH+1+MSCONS:D:04B:UN:2.4c",
            f"BGM+7+M1+{function}",
            f"DTM+137:{known}",
            "UNS+D",
            "NAD+DP",
            *segments,
            "UNT+9+1",
            "UNZ+1+REF",
            "",
        ]
    ).encode()


def point(
    *quantities, location="LOC+172+50375312838", obis="1-1?:1.29.0:SRW", serial=None, times=TIMES
):
    return (
        location,
        *([f"RFF+MG:{serial}"] if serial else []),
        "LIN+1",
        f"PIA+5+{obis}",
        *(part for quantity in quantities for part in (f"QTY+{quantity}", *times)),
    )


def read(content, table="meter_readings"):
    frame = mscons.read(content, file_name="x.edi", context=CONTEXT)[table]
    assert_fits_raw_table(frame, table)
    return frame


def test_a_reading_has_the_location_direction_and_times_of_the_segments_around_it():
    frame = read(interchange(*point("220:1.567"), *point("67:2", obis="1-1?:2.29.0:SRW")))

    assert accepted(frame).rows() == [
        ("50375312838", flow, START, START + QUARTER, quantity, "kWh", quality, KNOWN)
        for flow, quantity, quality in (
            ("import", 1.567, "measured"),
            ("export", 2.0, "substituted"),
        )
    ]


@pytest.mark.parametrize(
    ("qualifier", "quality", "quantity"),
    [
        ("220", "measured", 4.5),
        ("67", "substituted", 4.5),
        ("201", "estimated", 4.5),
        ("Z18", "estimated", 4.5),
        ("20", "missing", None),
        ("Z30", "missing", None),
    ],
)
def test_each_qualifier_has_its_quality(qualifier, quality, quantity):
    frame = read(interchange(*point(f"{qualifier}:4.5")))

    assert frame.select("quality", "quantity").rows() == [(quality, quantity)]


@pytest.mark.parametrize(
    ("quantity", "obis", "energy"),
    [
        ("220:4500:WHR", "1-1?:1.29.0:SRW", (4500.0, "Wh")),
        ("220:4.5:MWH", "1-1?:1.9.0:SRW", (4.5, "MWh")),
        # A mean of 800 kW over a quarter of an hour is 200 kWh.
        ("220:800:KWT", "1-1?:1.5.0:SRW", (200.0, "kWh")),
        ("220:2:MAW", "1-1?:1.4.0:SRW", (0.5, "MWh")),
    ],
)
def test_units_are_kept_and_a_mean_power_is_energy(quantity, obis, energy):
    frame = read(interchange(*point(quantity, obis=obis)))

    assert frame.select("quantity", "unit").rows() == [energy]


@pytest.mark.parametrize(
    ("una", "value", "expected"),
    [
        ("UNA:+,? ", "1,567", 1.567),
        ("UNA:+.? ", "1.567", 1.567),
        ("", "1,567", 1.567),
        ("", "1.567", 1.567),
        ("UNA:+,? ", "1.567", None),
        ("UNA:+.? ", "1,567", None),
    ],
)
def test_the_decimal_mark_is_the_one_that_una_declares(una, value, expected):
    frame = read(interchange(*point(f"220:{value}"), una=una))

    assert accepted(frame)["quantity"].to_list() == ([expected] if expected else [])
    assert reasons(frame) == (
        [] if expected else [f"value '{value}': UNA declares '{una[5]}' as the decimal mark"]
    )


def test_una_declares_every_separator():
    content = interchange(*point("220:1.567")).decode()
    other = content.replace("?+", "!*").replace("?:", "!^")
    other = other.replace("+", "|").replace(":", "#").replace("'", "~")
    other = other.replace("!*", "+").replace("!^", ":")
    other = "UNA#|.! ~" + other.partition("~")[2]

    assert read(other.encode()).equals(read(content.encode()))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"obis": "1-1?:3.29.0:SRW"}, "OBIS 3.: no active energy of one direction"),
        ({"obis": "1-1?:1.6.0:SRW"}, "OBIS 1.6.: neither energy of an interval nor a register"),
        ({"obis": "1-1?:1.29.1:SRW"}, "OBIS 1.29.1: the part of a tariff"),
        ({"obis": "7-20?:99.33.17:SRW"}, "OBIS 7-: no electricity"),
        ({"obis": "9990001000798:Z08"}, "PIA code list Z08: no OBIS code"),
        ({"quantity": "220:4.5:KWT"}, "OBIS 1.29.0 in KWT: no active energy"),
        ({"quantity": "220:4.5:D54"}, "OBIS 1.29.0 in D54: no active energy"),
        ({"quantity": "187:4.5"}, "QTY 187: a forecast, no reading"),
        ({"quantity": "79:4.5"}, "QTY 79: a sum, no reading"),
        ({"location": "LOC+237+11XA----X+11XB----X"}, "LOC+237: no metering point"),
        (
            {"times": ("DTM+163:202604302200?+00:303", "DTM+164:202605312200?+00:303")},
            "energy of more than a day: no reading of an interval",
        ),
    ],
)
def test_what_is_no_reading_of_active_energy_is_left_out(changes, reason):
    quantity = changes.pop("quantity", "220:4.5")
    frame = read(interchange(*point(quantity, **changes), *point("220:7")))

    assert left_out(frame) == [reason]
    assert accepted(frame)["quantity"].to_list() == [7.0]


def test_a_test_interchange_counts_for_nothing():
    frame = read(interchange(*point("220:4.5"), test="1"))

    assert left_out(frame) == ["a test interchange (UNB element 0035)"]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (
            {"obis": "x"},
            "OBIS code 'x': expected one such as 1-1:1.29.0 in PIA+5",
        ),
        (
            {"quantity": "999:4.5"},
            "QTY qualifier '999': expected 220, 67, 201, Z18, 20, Z30",
        ),
        ({"quantity": "220:-4"}, "number '-4': expected a number, at least 0"),
        (
            {"times": ("DTM+163:202605041000:203", TIMES[1])},
            "DTM+163 '202605041000:203': expected CCYYMMDDHHMM with an offset, as"
            " 202605040000+00 in format 303",
        ),
        (
            {"location": "LOC+172"},
            "LOC+172 is empty: expected a market or metering location",
        ),
    ],
)
def test_what_cannot_be_told_is_rejected_with_its_reason(changes, reason):
    quantity = changes.pop("quantity", "220:4.5")
    frame = read(interchange(*point(quantity, **changes), *point("220:7")))

    assert reasons(frame) == [reason]
    assert accepted(frame)["quantity"].to_list() == [7.0]


@pytest.mark.parametrize("obis", ["1-1?:1.29.0:SRW", "1-2?:1.29.0:SRW"])
def test_of_other_energy_told_beside_that_of_an_interval_neither_is_taken(obis):
    other, same = point("220:5", obis=obis), point("220:4.5", obis=obis)
    says = "other energy of the interval is told beside it, known as long; expected one, ask which"

    frame = read(interchange(*point("220:4.5"), *other))

    assert reasons(frame) == [
        f"value '4.5' of 1-1:1.29.0: {says} is right",
        f"value '5' of {obis.removesuffix(':SRW').replace('?', '')}: {says} is right",
    ]
    assert reasons(read(interchange(*point("220:4.5"), *same))) == []


def test_a_cancelled_interval_is_missing_since_the_date_of_the_cancellation():
    frame = read(interchange(*point("220:4.5"), function="1"))

    assert frame.select("quality", "quantity", "known_at").rows() == [("missing", None, KNOWN)]


@pytest.mark.parametrize(
    ("segments", "table", "reason"),
    [
        (
            (),
            "meter_readings",
            "the message cancels another and names no interval: withdraw the file that told it",
        ),
        (
            point("220:1340", obis="1-1?:1.8.0:SRW", times=READ),
            "register_reads",
            "the message cancels a register read: withdraw the file that told it",
        ),
    ],
)
def test_a_cancellation_that_takes_nothing_back_is_rejected(segments, table, reason):
    assert reasons(read(interchange(*segments, function="1"), table)) == [reason]


def test_a_date_of_message_without_offset_is_german_time():
    frame = read(interchange(*point("220:4.5"), known="202605050800:203"))

    assert frame["known_at"].to_list() == [KNOWN]


def test_the_state_of_a_register_is_a_read():
    register = point("220:1340.5", obis="1-1?:1.8.0:SRW", serial="8465929523", times=READ)
    frame = read(interchange(*register), "register_reads")

    assert accepted(frame).rows() == [
        ("50375312838", "import", START, "8465929523", 1340.5, "kWh", KNOWN)
    ]


@pytest.mark.parametrize(
    ("quantity", "times", "reason"),
    [
        ("67:1340", READ, "a register read that is estimated"),
        ("220:1340", ("DTM+9:20260504:102",), "a register read without its time of day"),
    ],
)
def test_a_register_that_was_not_read_to_the_minute_is_left_out(quantity, times, reason):
    register = point(quantity, obis="1-1?:1.8.0:SRW", times=times)

    assert left_out(read(interchange(*register), "register_reads")) == [reason]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"<feed/>", "starts with '<feed/>' and not with UNA or UNB"),
        (interchange(*point("220:4.5"))[:-30], "no end"),
        (interchange(*point("220:4.5")).rpartition(b"UNZ")[0], "no UNZ segment"),
        (interchange() * 2, "found 2 UNB segments"),
        (interchange(), r"the messages \(MSCONS\) have no QTY"),
        (interchange(*point("220:4.5")).replace(b"MSCONS", b"APERAK"), r"\(APERAK\) have no QTY"),
        (b"UNA++.? 'UNB+UNOC'", "six different characters"),
    ],
)
def test_what_is_no_whole_interchange_is_refused(content, reason):
    with pytest.raises(UnreadableFile, match=reason):
        read(content)


@given(st.binary(max_size=200))
def test_bytes_after_the_header_are_read_or_refused(noise):
    content = interchange(*point("220:4.5"))
    try:
        mscons.read(content[:160] + noise + content[160:], file_name="x", context=CONTEXT)
    except UnreadableFile as error:
        assert "expected" in str(error) or "ask for it again" in str(error)  # noqa: PT017


def test_a_month_of_a_real_load_profile_adds_up():
    frame = read(real_file("mscons", "MSCONS_TL_SAMPLE01.txt"))

    assert frame.height == 2976
    assert round(frame["quantity"].sum(), 3) == 680.282
    assert frame["interval_started_at"].min() == datetime(2015, 11, 30, 23, tzinfo=UTC)
    assert frame["interval_ended_at"].max() == datetime(2015, 12, 31, 23, tzinfo=UTC)
    # Its sender labels two hours of a Sunday 16:00, and ends a quarter before it begins.
    beside = [one for one in reasons(frame) if "told beside it" in one]
    assert len(beside) == 6
    assert [one for one in reasons(frame) if one not in beside] == [
        "DTM+164 '2015-12-20T16:00:00+01:00': expected a time after that of DTM+163"
    ]
