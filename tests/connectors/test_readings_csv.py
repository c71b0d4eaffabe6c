from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.connectors import readings_csv
from pipelines.connectors.common import Context, UnreadableFile
from pipelines.connectors.mappings import Mappings, Quantity, ReadingsMapping, Source, Time
from tests.connectors.grid_fixtures import accepted, assert_fits_raw_table, left_out, reasons
from tests.real_files import real_file

BERLIN = "Europe/Berlin"
CONTRACT = "meter_id,interval_start_utc,interval_seconds,quantity,unit,direction,quality\n"
SUPPLIER = ReadingsMapping(
    folder="stadtwerke",
    delimiter=";",
    decimal_mark=",",
    meter_id=Source(column="Zähler", codes={"0001": "JLIT", "0002": "JLGRID"}),
    flow=Source(column="Richtung", codes={"Bezug": "import", "Lieferung": "export"}),
    started_at=Time(["Datum", "von"], "%d.%m.%Y %H:%M", BERLIN),
    interval_minutes=15,
    quantity=Quantity("Leistung", "kW"),
    quality=Source(column="Status", codes={"W": "measured", "E": "estimated", "F": "missing"}),
)
HEADER = "Zähler;Richtung;Datum;von;Leistung;Status\n"


def read(text: str, mapping: ReadingsMapping | None = SUPPLIER, name: str = "stadtwerke/a.csv"):
    mappings = Mappings([mapping] if mapping else [])
    frame = readings_csv.read(text.encode(), file_name=name, context=Context({}, mappings))
    rows = frame["meter_readings"]
    assert_fits_raw_table(rows, "meter_readings")
    return rows


def local(column: str = "at", **changes) -> ReadingsMapping:
    """Hourly energy of one meter by local times in one column."""
    given = {
        "started_at": Time([column], "%Y-%m-%d %H:%M", BERLIN),
        "interval_minutes": 60,
        **changes,
    }
    return ReadingsMapping(
        folder="f",
        meter_id=Source(constant="M"),
        flow=Source(constant="import"),
        quantity=Quantity("kwh", "kWh"),
        **given,
    )


def starts(text: str, **changes) -> list[str]:
    rows = accepted(read("at,kwh\n" + text, local(**changes), "f/a.csv"))
    return [f"{at:%d %H:%M}" for at in rows["interval_started_at"]]


def test_the_contract_is_read_without_a_mapping():
    rows = read(
        CONTRACT
        + "M1,2026-05-04T00:00:00,900,1.5,kWh,import,measured\n"
        + "M1,2026-05-04T02:15:00+02:00,900,,wh,Export,missing\n",
        None,
        "a.csv",
    )
    at = datetime(2026, 5, 4, tzinfo=UTC)
    quarter = timedelta(minutes=15)
    assert accepted(rows).rows(named=True) == [
        {
            "meter_id": "M1",
            "flow": "import",
            "interval_started_at": at,
            "interval_ended_at": at + quarter,
            "unit": "kWh",
            "quantity": 1.5,
            "quality": "measured",
        },
        {
            "meter_id": "M1",
            "flow": "export",
            "interval_started_at": at + quarter,
            "interval_ended_at": at + 2 * quarter,
            "unit": "Wh",
            "quantity": None,
            "quality": "missing",
        },
    ]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("M1,2026-05-04T00:00Z,900,-1,kWh,import,measured", "quantity '-1': expected a number, at"),
        ("M1,2026-05-04T00:00Z,900,,kWh,import,measured", "quantity is empty: expected the energy"),
        ("M1,2026-05-04T00:00Z,0,1,kWh,import,measured", "interval_seconds '0': expected a number"),
        (
            "M1,2026-05-04T00:00Z,900,1,kW,import,measured",
            "unit 'kW': expected one of Wh, kWh, MWh",
        ),
        (",2026-05-04T00:00Z,900,1,kWh,import,measured", "meter_id is empty: expected the meter's"),
        ("M1,gestern,900,1,kWh,import,measured", "interval_start_utc 'gestern': expected a time"),
    ],
)
def test_a_row_against_the_contract_is_rejected_with_its_reason(row, reason):
    [told] = reasons(read(CONTRACT + row + "\n", None, "a.csv"))
    assert told.startswith(reason)


def test_another_layout_without_a_mapping_says_where_to_declare_it():
    with pytest.raises(UnreadableFile, match=r"declared for its folder in .*mappings\.yml"):
        read(HEADER, None, "stadtwerke/a.csv")


def test_a_suppliers_mean_power_becomes_energy_of_the_named_meter():
    rows = read(
        HEADER
        + "0001;Bezug;04.05.2026;00:00;100,4;W\n"
        + "0002;Lieferung;04.05.2026;00:15;8;E\n"
        + "0002;Lieferung;04.05.2026;00:30;0;F\n"
    )
    at = datetime(2026, 5, 3, 22, tzinfo=UTC)
    columns = ("meter_id", "flow", "interval_started_at", "quantity", "unit", "quality")
    assert accepted(rows).select(columns).rows() == [
        ("JLIT", "import", at, pytest.approx(25.1), "kWh", "measured"),
        ("JLGRID", "export", at + timedelta(minutes=15), 2.0, "kWh", "estimated"),
        ("JLGRID", "export", at + timedelta(minutes=30), None, "kWh", "missing"),
    ]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("0003;Bezug;04.05.2026;00:00;1;W", "Zähler '0003': expected one of 0001, 0002"),
        ("0001;Blind;04.05.2026;00:00;1;W", "Richtung 'Blind': expected one of Bezug, Lieferung"),
        ("0001;Bezug;04.05.2026;00:00;1;X", "Status 'X': expected one of W, E, F"),
        (
            "0001;Bezug;04.05.2026;00:00;1.234;W",
            "Leistung '1.234': expected a number, at least 0, with a decimal comma and no mark of"
            " thousands",
        ),
        (
            "0001;Bezug;2026-05-04;00:00;1;W",
            "Datum and von '2026-05-04 00:00': expected a time such as %d.%m.%Y %H:%M",
        ),
        (
            "0001;Bezug;29.03.2026;02:15;1;W",
            "Datum and von '29.03.2026 02:15' does not exist in Europe/Berlin: clocks skip it",
        ),
        (
            "0001;Bezug;25.10.2026;02:15;1;W",
            "Datum and von '25.10.2026 02:15' is twice in Europe/Berlin, where clocks are put back:"
            " expected it in two rows of its meter and every other time in one, or times with an"
            " offset",
        ),
    ],
)
def test_a_row_that_the_mapping_does_not_fit_is_rejected_with_its_reason(row, reason):
    assert reasons(read(HEADER + row + "\n")) == [reason]


def test_a_row_without_any_value_is_left_out():
    rows = read(HEADER + ";;;;;\n0001;Bezug;04.05.2026;00:00;1;W\n")
    assert left_out(rows) == ["a row without any value"]
    assert accepted(rows).height == 1


FALL = "2026-10-25 01:00,1\n2026-10-25 02:00,2\n2026-10-25 02:00,3\n2026-10-25 03:00,4\n"


def test_the_hour_that_clocks_repeat_is_told_by_the_order_of_its_rows():
    assert starts(FALL) == ["24 23:00", "25 00:00", "25 01:00", "25 02:00"]
    backwards = "".join(f"{line}\n" for line in reversed(FALL.splitlines()))
    assert starts(backwards) == ["25 02:00", "25 01:00", "25 00:00", "24 23:00"]


def test_a_file_that_tells_times_twice_anyway_does_not_tell_the_repeated_hour():
    assert starts(FALL + "2026-10-25 03:00,4\n") == ["24 23:00", "25 02:00", "25 02:00"]


def test_times_of_the_end_of_an_interval_are_told_apart_too():
    at_end = {"started_at": None, "ended_at": Time(["at"], "%Y-%m-%d %H:%M", BERLIN)}
    assert starts(FALL, **at_end) == ["24 22:00", "24 23:00", "25 00:00", "25 01:00"]


def test_iso_times_are_local_where_they_have_no_offset():
    iso = {"started_at": Time(["at"], None, BERLIN)}
    assert starts("2026-05-04T02:00,1\n2026-05-04T02:00Z,1\n", **iso) == ["04 00:00", "04 02:00"]
    rows = read("at,kwh\n2026-05-04T02:00,1\n", local(started_at=Time(["at"])), "f/a.csv")
    assert reasons(rows) == [
        "at '2026-05-04T02:00' has no time zone: expected Z or an offset, or time_zone in"
        " mappings.yml"
    ]


def test_times_with_an_offset_of_their_own_format_are_read():
    of_offset = {"started_at": Time(["at"], "%d/%m/%Y %H:%M %z")}
    assert starts("25/10/2026 02:00 +0200,1\n25/10/2026 02:00 +0100,1\n", **of_offset) == [
        "25 00:00",
        "25 01:00",
    ]


def test_the_innermost_folder_says_how_a_file_is_read():
    inner = local(quality=None)
    mappings = Mappings([SUPPLIER, ReadingsMapping(**{**vars(inner), "folder": "stadtwerke/new"})])
    assert mappings.readings_of("stadtwerke/new/2026/a.csv") == mappings.readings_csv[1]
    assert mappings.readings_of("stadtwerke/newer/a.csv") == SUPPLIER
    assert mappings.readings_of("stadtwerke.csv") is None


def test_the_template_of_granular_certificates_is_read_by_a_mapping():
    template = ReadingsMapping(
        folder="energytag",
        meter_id=Source(constant="PLANT"),
        flow=Source(constant="export"),
        started_at=Time(["interval_start_datetime"]),
        ended_at=Time(["interval_end_datetime"]),
        quantity=Quantity("interval_usage", "Wh"),
    )
    text = real_file("certificates", "meter_readings_template.csv").decode()
    rows = read(text + "\n", template, "energytag/a.csv")
    columns = ("interval_started_at", "interval_ended_at", "quantity", "unit", "quality")
    at = [datetime(2024, 1, 1, hour, tzinfo=UTC) for hour in (0, 1, 2)]
    assert accepted(rows).select(columns).rows() == [
        (at[0], at[1], 1000.0, "Wh", "measured"),
        (at[1], at[2], 1200.0, "Wh", "measured"),
    ]


@settings(max_examples=30, deadline=None)
@given(
    zone=st.sampled_from([BERLIN, "America/Chicago", "Australia/Lord_Howe", "UTC"]),
    day=st.dates(datetime(2026, 1, 1).date(), datetime(2027, 12, 31).date()),  # noqa: DTZ001
    step=st.sampled_from([15, 30, 60]),
    is_reversed=st.booleans(),
)
def test_every_interval_of_two_local_days_comes_back_at_its_instant(zone, day, step, is_reversed):
    first = datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(zone)).astimezone(UTC)
    instants = [first + timedelta(minutes=step * number) for number in range(2 * 1440 // step)]
    written = instants[::-1] if is_reversed else instants
    lines = "".join(f"{at.astimezone(ZoneInfo(zone)):%Y-%m-%d %H:%M},1\n" for at in written)
    by_zone = local(started_at=Time(["at"], "%Y-%m-%d %H:%M", zone), interval_minutes=step)
    rows = read("at,kwh\n" + lines, by_zone, "f/a.csv")
    resolved = rows["interval_started_at"].to_list()
    assert all(
        found == at or (found is None and why is not None)
        for found, at, why in zip(resolved, written, rows["reject_reason"], strict=True)
    )
    assert resolved.count(None) in (0, len([r for r in reasons(rows) if "is twice" in r]))
