"""What each file from the field comes to, in the folder of landing that it belongs to.

A row of `OUTCOMES` a file: rows loaded, left out and quarantined of each raw table, with what is
said of those that are not kept, or why the file is refused. Counts of rows that the raw table's own
rules refuse are among those quarantined.
"""

import hashlib
from collections import Counter
from datetime import UTC, datetime

import polars as pl
import pytest

from pipelines.connectors.common import Context, UnreadableFile
from pipelines.connectors.reading import Reader
from pipelines.lake.landing import LandedFile, rows_of
from pipelines.lake.quarantine import Declared, split
from pipelines.lake.schemas import RAW_TABLES, columns_to_fill
from tests.real_files import real_file

LOADED_AT = datetime(2026, 11, 28, tzinfo=UTC)
DECLARED = Declared(
    digest="0" * 16,
    context=Context({}),
    names={},
    # The files are from many years: none is too old for this book.
    first_day=datetime(2000, 1, 1, tzinfo=UTC),
    kept_days=None,
)

Outcome = str | dict[str, tuple[int, int, int]]

OUTCOMES: dict[str, tuple[Outcome, tuple[str, ...]]] = {
    "green_button/ESPIIntervalBlock.xml": (
        "no MeterReading in the feed leads to IntervalBlock",
        (),
    ),
    "green_button/ESPIReadingTypes.xml": ("the feed has ReadingType but no IntervalBlock", ()),
    "green_button/ESPIUsagePoints.xml": ("the feed has UsagePoint but no IntervalBlock", ()),
    "green_button/PGEUsageSummary.xml": ("not well-formed XML (unbound prefix", ()),
    "green_button/TestGBDataHourlyNineDaysBinnedDaily.xml": ({"meter_readings": (216, 0, 0)}, ()),
    "green_button/TestGBDataOneYearDailyBinnedMonthly.xml": ({"meter_readings": (444, 0, 0)}, ()),
    "green_button/sample_greenbutton_data.xml": ({"meter_readings": (362, 0, 0)}, ()),
    # Two hours of one Sunday stand under the same times, a quarter of which ends before it begins.
    "mscons/MSCONS_TL_SAMPLE01.txt": (
        {"meter_readings": (2969, 0, 7)},
        ("other energy of the interval is told beside it", "expected a time after that of DTM+163"),
    ),
    **{
        f"mscons/mscons-message-example{name}.txt": (
            {"meter_readings": (0, count, 0)},
            ("a test interchange (UNB element 0035)",),
        )
        for name, count in (("-simple", 2), ("-una-spec", 4), ("", 4))
    },
    "nem12/Example_NEM12_actual_interval.csv": (
        {"meter_readings": (48, 48, 0)},
        ("suffix Q1, kVArh: no active energy",),
    ),
    "nem12/Example_NEM12_month_solar.csv": ({"meter_readings": (17_856, 0, 0)}, ()),
    "nem12/Example_NEM12_multiple_quality.csv": ({"meter_readings": (48, 0, 0)}, ()),
    "nem12/Example_NEM12_substituted_interval.csv": (
        {"meter_readings": (48, 48, 0)},
        ("suffix Q1, kVArh: no active energy",),
    ),
    "nem12/invalid_Example_NEM12_15min_200_30min_300.csv": (
        "300 record of 20230225 has 48 values: expected 96 and then the quality",
        (),
    ),
    "nem12/invalid_Example_NEM12_missing_header.csv": ("and not with 100", ()),
    "nem12/invalid_Example_empty_file.csv": ("found 0 bytes", ()),
    **{
        f"sunspec/model_{number}.json": (f"the definition of SunSpec model {number}", ())
        for number in (124, 701, 702, 704, 713, 714, 802)
    },
    # Their one row has no line end.
    **{
        f"certificates/{name}.csv": (
            {"certificates": (0, 0, 1)},
            ("the file ends within this row",),
        )
        for name in ("gc_import_template", "test_import")
    },
    **{
        f"certificates/{name}.csv": ("column issuance_id, bundle_quantity", ())
        for name in (
            "gen_by_fuel",
            "meter_readings_template",
            "storage_allocation_template",
            "test_storage_readings",
        )
    },
    "prices_csv/DE-LU_electricity_prices_2024.csv": ({"market_prices": (8784, 0, 0)}, ()),
    "prices_csv/DE-LU_processed_eur_2024.csv": (
        {"market_prices": (0, 0, 8760)},
        ("has no time zone",),
    ),
    "prices_csv/US-TEX-ERCO_electricity_prices_2024.csv": ({"market_prices": (8784, 0, 0)}, ()),
    # It says that there is nothing.
    "entsoe/acknowledgement.invalidrequest.xml": ({}, ()),
    "entsoe/balancing.xml": ("Balancing_MarketDocument of type A86", ()),
    "entsoe/gl.load.singlepoint.xml": ("GL_MarketDocument of type A65", ()),
    "entsoe/publication.a03curvetype.xml": ({"market_prices": (6, 0, 0)}, ()),
    "entsoe/publication.explicitallocations.xml": ("Publication_MarketDocument of type A25", ()),
    "entsoe/unavailability.consumption.xml": ("Unavailability_MarketDocument of type A76", ()),
    "electricity_maps/DE-LU_2024_hourly.csv": ({"grid_carbon": (8784, 0, 0)}, ()),
    "electricity_maps/US-TEX-ERCO_2024_hourly.csv": ({"grid_carbon": (8784, 0, 0)}, ()),
}


@pytest.fixture(scope="module")
def reader():
    with Reader(DECLARED.context, columns_to_fill()) as process:
        yield process


def outcome(reader, source_file, folder) -> tuple[Outcome, set[str]]:
    format_name, _, name = source_file.partition("/")
    content = real_file(format_name, name)
    path = folder / name
    path.write_bytes(content)
    sha256 = hashlib.sha256(content).hexdigest()
    landed = LandedFile(
        path, source_file, format_name, sha256, len(content), LOADED_AT, LOADED_AT, 1
    )
    loads = pl.DataFrame({"load_id": [landed.load_id], "first_loaded_at": [LOADED_AT]})
    try:
        parts = [(landed, part) for part in reader.read(path, source_file, sha256)]
    except UnreadableFile as error:
        return str(error), set()
    counts: dict[str, tuple[int, int, int]] = {}
    said: set[str] = set()
    for table, frame in rows_of(parts, Counter()).items():
        good, bad, left_out = split(frame, RAW_TABLES[table], DECLARED, loads)
        counts[table] = (len(good), len(left_out), len(bad))
        said |= {*left_out["reason"], *bad["reason"]}
    return counts, said


@pytest.mark.parametrize("source_file", OUTCOMES)
def test_a_file_from_the_field_comes_to_these_rows(reader, source_file, tmp_path):
    expected, reasons = OUTCOMES[source_file]

    found, said = outcome(reader, source_file, tmp_path)

    if isinstance(expected, str):
        assert isinstance(found, str)
        assert expected in found
    else:
        assert found == expected
    # Of many reasons that differ in a value only, one stands for all.
    assert all(any(reason in one for one in said) for reason in reasons)
    assert all(any(reason in one for reason in reasons) for one in said)
