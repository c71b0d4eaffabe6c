"""What each file from the field comes to, in the folder of landing that it belongs to.

A row of `OUTCOMES` a file: rows loaded, left out and quarantined of each raw table, with what is
said of those that are not kept, or why the file is refused. Counts of rows that the raw table's own
rules refuse are among those quarantined. Files that are of no format lie in the folder of the one
that is nearest, whose reader has to say what it has found.
"""

import hashlib
from collections import Counter
from datetime import UTC, datetime
from pathlib import PurePosixPath

import polars as pl
import pytest

from pipelines.connectors.common import Context, UnreadableFile
from pipelines.connectors.reading import Reader
from pipelines.lake.landing import LandedFile, rows_of
from pipelines.lake.quarantine import Declared, split
from pipelines.lake.schemas import RAW_TABLES, columns_to_fill
from tests.real_files import real_file, real_files

LOADED_AT = datetime(2026, 11, 28, tzinfo=UTC)
DECLARED = Declared(
    digest="0" * 16,
    # sacct tells the time that its cluster keeps.
    context=Context({"santis": "Europe/Zurich"}),
    names={},
    # The files are from many years: none is too old for this book.
    first_day=datetime(2000, 1, 1, tzinfo=UTC),
    kept_days=None,
)

Outcome = str | dict[str, tuple[int, int, int]]

LANDED_AS = {
    "dcgm_scrape/ericsson_t4_loaded.extracted.prom": "dcgm_scrape/t4_20260601T120000Z.prom",
    "dcgm_scrape/kops_l4_idle.extracted.prom": "dcgm_scrape/l4_20260601T120000Z.prom",
    "dcgm_scrape/rafay_t4_idle.extracted.prom": "dcgm_scrape/t4_20260601T120000Z.prom",
    **{
        f"redfish/Chassis_1U_{resource}_index.json": f"redfish/1u/{resource}_20260601T120000Z.json"
        for resource in ("Power", "Sensors", "Thermal")
    },
    **{
        name: f"electricity_maps/{name}"
        for name in (
            *(f"google_cfe/{year}.csv" for year in range(2019, 2025)),
            "emission_factors/emission_factors_for_co2_ch4_n2o.csv",
            "emission_factors/eu-carbon-intensity-electricity.csv",
        )
    },
    "azure_llm/AzureLLMInferenceTrace_code.csv": "prometheus/AzureLLMInferenceTrace_code.csv",
}
"""Where and by which name a file is landed, if not as it is kept."""

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
    # One board each.
    **{
        f"dcgm_scrape/{name}.extracted.prom": ({"gpu_samples": (1, 0, 0)}, ())
        for name in ("ericsson_t4_loaded", "kops_l4_idle", "rafay_t4_idle")
    },
    "sacct/cscs_gh200_sacct_rows.txt": (
        {"jobs": (1, 3, 0)},
        ("a step, for which its job stands",),
    ),
    "sacct/slurmrestd_24.05_0.0.41_slurm-jobs.json": ({"jobs": (14, 0, 0)}, ()),
    "opencost/opencost_allocation_example.json": ({"jobs": (3, 0, 0)}, ()),
    "focus/focus_sample.csv": ({"cloud_charges": (1000, 0, 0)}, ()),
    "redfish/Chassis_1U_Power_index.json": ({"node_power_samples": (1, 0, 0)}, ()),
    "redfish/Chassis_1U_Sensors_index.json": (
        {"node_power_samples": (0, 1, 0)},
        ("a Redfish SensorCollection, which tells no power",),
    ),
    "redfish/Chassis_1U_Thermal_index.json": (
        {"node_power_samples": (0, 1, 0)},
        ("a Redfish Thermal, which tells no power",),
    ),
    # Means of a year, of fuels and of countries, and the requests of a language model: of none of
    # them is there a raw table.
    **{
        f"google_cfe/{year}.csv": (
            "not in the header (google cloud region, location, google cfe",
            (),
        )
        for year in range(2019, 2025)
    },
    "emission_factors/emission_factors_for_co2_ch4_n2o.csv": (
        "not in the header (fuel type, energy_source_code, co2_tons_per_mmbtu",
        (),
    ),
    "emission_factors/eu-carbon-intensity-electricity.csv": (
        "column datetime (utc), zone id, carbon intensity gco2eq/kwh (direct),",
        (),
    ),
    "azure_llm/AzureLLMInferenceTrace_code.csv": (
        "found the columns ['TIMESTAMP', 'ContextTokens', 'GeneratedTokens'], expected either one"
        " column per metric",
        (),
    ),
}


@pytest.fixture(scope="module")
def reader():
    with Reader(DECLARED.context, columns_to_fill()) as process:
        yield process


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def outcome(reader, kept_as, folder) -> tuple[Outcome, set[str]]:
    content = real_file(*kept_as.split("/"))
    source_file = LANDED_AS.get(kept_as, kept_as)
    format_name = source_file.partition("/")[0]
    path = folder / PurePosixPath(source_file).name
    path.write_bytes(content)
    sha256 = digest(content)
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


def test_no_file_from_the_field_is_without_an_outcome():
    told = {digest(real_file(*kept_as.split("/"))) for kept_as in OUTCOMES}

    assert [name for name, content in real_files() if digest(content) not in told] == []


@pytest.mark.parametrize("kept_as", OUTCOMES)
def test_a_file_from_the_field_comes_to_these_rows(reader, kept_as, tmp_path):
    expected, reasons = OUTCOMES[kept_as]

    found, said = outcome(reader, kept_as, tmp_path)

    if isinstance(expected, str):
        assert isinstance(found, str)
        assert expected in found
    else:
        assert found == expected
    # Of many reasons that differ in a value only, one stands for all.
    assert all(any(reason in one for one in said) for reason in reasons)
    assert all(any(reason in one for reason in reasons) for one in said)
