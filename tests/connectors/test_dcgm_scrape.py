from datetime import UTC, datetime

import polars as pl
import pytest

from pipelines.connectors import dcgm_scrape
from pipelines.connectors.common import Context, UnreadableFile
from pipelines.lake.schemas import RAW_TABLES, payload_columns
from pipelines.simulator.writers.dcgm_scrape import scrape_file_name, write_scrape
from tests.real_files import real_file

MIDNIGHT = datetime(2026, 11, 1, tzinfo=UTC)
SAMPLES = pl.DataFrame(
    {
        "sampled_at": [MIDNIGHT, MIDNIGHT],
        "hostname": ["jwb0001", "jwb0001"],
        "gpu_index": ["0", "1"],
        "power_w": [412.25, 110.0],
        "energy_counter_millijoules": [15_152_422_938, 7],
        "utilization_ratio": [0.91, 0.0],
        "sm_clock_mhz": [1980.0, 1980.0],
        "power_limit_w": [400.0, 400.0],
        "default_power_limit_w": [700.0, 700.0],
        "power_violation_ns": [1_000_000_000, 0],
        "power_brake_ns": [7, 7],
        "thermal_violation_ns": [0, 0],
        "clocks_event_reasons": [4, 1],
        "mig_busy_ratio": [None, None],
        "mig_told_ratio": [None, None],
        "namespace": [None, None],
        "pod": [None, None],
        "is_shared": [None, None],
    },
    schema_overrides={"sampled_at": pl.Datetime("us", "UTC")},
)


def read(content: bytes, file_name: str = "jwb0001_20261101T000000Z.prom") -> list[dict]:
    tables = dcgm_scrape.read(content, file_name=file_name, context=Context({}))
    return tables["gpu_samples"].to_dicts()


def test_a_scrape_is_read_back_unchanged_at_the_time_of_its_name():
    content = write_scrape(SAMPLES, scraped_at=MIDNIGHT)
    name = scrape_file_name("jwb0001", MIDNIGHT)
    assert name == "jwb0001_20261101T000000Z.prom"
    assert read(content, name) == [
        {**row, "reject_reason": None} for row in SAMPLES.iter_rows(named=True)
    ]


@pytest.mark.parametrize(
    ("name", "row"),
    [
        (
            "ericsson_t4_loaded.extracted.prom",
            {
                "hostname": "cp-bm14r7",
                "power_w": 68.244,
                "energy_counter_millijoules": 15_152_422_938,
                "utilization_ratio": 0.91,
                "sm_clock_mhz": 660.0,
            },
        ),
        (
            "rafay_t4_idle.extracted.prom",
            {
                "hostname": "ip-10-200-3-41",
                "power_w": 14.512,
                "energy_counter_millijoules": 48_287_135,
                "utilization_ratio": 0.0,
                "sm_clock_mhz": 300.0,
            },
        ),
    ],
)
def test_real_scrapes_give_one_row_per_board(name: str, row: dict):
    assert read(real_file("dcgm_scrape", name), "any_20261101T000000Z.prom") == [
        {
            **dict.fromkeys(payload_columns(RAW_TABLES["gpu_samples"])),
            "sampled_at": MIDNIGHT,
            "gpu_index": "0",
            "reject_reason": None,
            **row,
        }
    ]


def test_a_scrape_names_the_pod_that_holds_a_board():
    # Nothing renames the exporter's labels in its own text, which has none of a free board.
    labels = 'Hostname="jwb0001",container="main",namespace="research",pod="train-0"'
    content = f"""# TYPE DCGM_FI_DEV_POWER_USAGE gauge
DCGM_FI_DEV_POWER_USAGE{{gpu="0",{labels}}} 412.5
DCGM_FI_DEV_POWER_USAGE{{gpu="1",Hostname="jwb0001"}} 70
""".encode()
    assert [(row["namespace"], row["pod"], row["is_shared"]) for row in read(content)] == [
        ("research", "train-0", False),
        (None, None, None),
    ]


def test_counters_keep_their_name_although_the_parser_adds_total():
    text = (
        "# TYPE DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION counter\n"
        'DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION{gpu="0",hostname="n1"} 42\n'
    )
    assert [row["energy_counter_millijoules"] for row in read(text.encode())] == [42]


def test_blanks_in_a_scrape_are_null():
    text = 'DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION{gpu="0",hostname="n1"} 9223372036854775794\n'
    assert [row["energy_counter_millijoules"] for row in read(text.encode())] == [None]


@pytest.mark.parametrize(
    "name", ["scrape.prom", "jwb0001_2026-11-01.prom", "jwb0001_20261301T000000Z.prom"]
)
def test_a_name_without_a_time_is_refused_and_says_how_to_name_it(name: str):
    with pytest.raises(UnreadableFile, match=r"<hostname>_<YYYYMMDDTHHMMSSZ>\.prom"):
        read(b"", name)


def test_a_member_of_an_archive_takes_the_time_of_its_own_name():
    content = write_scrape(SAMPLES, scraped_at=MIDNIGHT)
    name = "day_20261031T235959Z.zip!jwb0001_20261101T000000Z.prom"
    assert {row["sampled_at"] for row in read(content, name)} == {MIDNIGHT}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"<html>\n", "line 1 is no Prometheus text exposition"),
        (b"\xff\xfe", "not UTF-8"),
        (b"up 1\nup 1", "the last line has no end, so the scrape may be cut off"),
        (b"DCGM_FI_DEV_FB_USED 1\n", "found no metric of a GPU"),
    ],
)
def test_other_text_is_refused_in_words(content: bytes, message: str):
    with pytest.raises(UnreadableFile, match=message):
        read(content)


@pytest.mark.parametrize(
    ("damaged", "told"),
    [
        ('UUID="GPU-1",\t="0000:00"', " (a damaged label); expected"),
        ('gpu="1",modelName=&NVIDIA', " (Invalid labels: "),
        ('gpu="1",gpu="1"', " (Invalid labels: "),
        ('gpu="1"', " (could not convert string to float: 'x'"),
    ],
)
def test_a_damaged_line_is_named_with_its_number(damaged: str, told: str):
    text = f'DCGM_FI_DEV_POWER_USAGE{{gpu="0",hostname="n"}} 412\nup{{{damaged}}} x\nup 1\n'
    with pytest.raises(UnreadableFile) as failure:
        read(text.encode())
    assert str(failure.value).startswith(
        "jwb0001_20261101T000000Z.prom: line 2 is no Prometheus text exposition" + told
    )
