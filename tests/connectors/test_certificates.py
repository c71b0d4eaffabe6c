"""Certificate bundles: EnergyTag's own file, what the writer writes, and what is refused."""

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from pipelines.connectors.certificates import read
from pipelines.connectors.common import UnreadableFile
from pipelines.connectors.parsing import CUT_OFF
from pipelines.lake.schemas import RAW_TABLES, payload_columns
from pipelines.simulator.writers.certificates import write_certificates
from tests.connectors.grid_fixtures import (
    CONTEXT,
    accepted,
    assert_fits_raw_table,
    left_out,
    reasons,
)
from tests.real_files import real_file

COLUMNS = payload_columns(RAW_TABLES["certificates"])
GOOD = {
    "issuance_id": "A-1",
    "bundle_quantity": "250",
    "certificate_bundle_id_range_start": "0",
    "certificate_bundle_id_range_end": "249",
    "energy_carrier": "electricity",
    "energy_source": "wind",
    "face_value": "1",
    "production_starting_interval": "01/06/2026 10:00",
    "production_ending_interval": "01/06/2026 11:00",
    "expiry_datestamp": "",
    "is_storage": "FALSE",
    "issuing_body": "UBA",
    "issue_market_zone": "DE-LU",
    "certificate_bundle_status": "",
}


def frame(content: bytes) -> pl.DataFrame:
    return read(content, file_name="gc.csv", context=CONTEXT)["certificates"]


def line(**changes: str) -> bytes:
    """The header and one good line with these fields changed."""
    return "\n".join((",".join(GOOD), ",".join((GOOD | changes).values()), "")).encode()


@pytest.mark.parametrize("name", ["gc_import_template.csv", "test_import.csv"])
def test_the_registrys_own_file_is_the_texan_hour_of_its_id(name):
    content = real_file("certificates", name)
    # As it comes it has no line end, so nothing says that its last zone is whole.
    assert reasons(frame(content)) == [CUT_OFF]
    found = frame(content + b"\n")
    assert_fits_raw_table(found, "certificates")
    # The id says 15:00, which is 21:00 UTC in Chicago's winter.
    assert accepted(found).rows(named=True) == [
        {
            "issuing_body": "ERCOT",
            "issuance_id": "GC-1-2025-01-21-1500",
            "device_id": None,
            "first_certificate": 0,
            "last_certificate": 5_209_999,
            "quantity_wh": 5_210_000,
            "energy_source": "solar",
            "production_started_at": datetime(2025, 1, 21, 21, tzinfo=UTC),
            "production_ended_at": datetime(2025, 1, 21, 22, tzinfo=UTC),
            "expires_at": datetime(2027, 1, 21, 21, tzinfo=UTC),
            "is_storage": False,
            "market_zone": "ERCOT",
            "status": "active",
        }
    ]


@pytest.mark.parametrize(
    "name",
    [
        "gen_by_fuel.csv",
        "meter_readings_template.csv",
        "storage_allocation_template.csv",
        "test_storage_readings.csv",
    ],
)
def test_other_files_of_the_registry_are_told_apart(name):
    with pytest.raises(UnreadableFile, match=r"column issuance_id, .* not in the header"):
        frame(real_file("certificates", name))


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("01/06/2026 10:00", datetime(2026, 6, 1, 10, tzinfo=UTC)),
        ("13/06/2026 10:00:30", datetime(2026, 6, 13, 10, 0, 30, tzinfo=UTC)),
        ("2026-06-01 10:00:00", datetime(2026, 6, 1, 10, tzinfo=UTC)),
        ("2026-06-01T10:00Z", datetime(2026, 6, 1, 10, tzinfo=UTC)),
        ("2026-06-01T12:00:00+02:00", datetime(2026, 6, 1, 10, tzinfo=UTC)),
        ("2026-06-01", datetime(2026, 6, 1, tzinfo=UTC)),
    ],
)
def test_times_are_utc_unless_they_carry_an_offset(written, meant):
    found = frame(
        line(production_starting_interval=written, production_ending_interval="01/07/2026")
    )
    assert accepted(found)["production_started_at"].to_list() == [meant]


def test_face_value_turns_certificates_into_energy():
    assert accepted(frame(line(face_value="1000000")))["quantity_wh"].to_list() == [250_000_000]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (
            {"bundle_quantity": "251"},
            "bundle_quantity 251: expected 250, the numbers from 0 to 249",
        ),
        (
            {"bundle_quantity": "2.5"},
            "bundle_quantity '2.5': expected a whole number from 1 to 1000000000000",
        ),
        (
            {"energy_carrier": "steam"},
            "energy_carrier 'steam': expected one of electricity, natural_gas, natural gas,"
            " hydrogen, ammonia, heat, other",
        ),
        (
            {"production_ending_interval": "01/06/2026 10:00"},
            "production_ending_interval 01/06/2026 10:00 is not after"
            " production_starting_interval 01/06/2026 10:00",
        ),
        (
            {"production_starting_interval": "31/06/2026 10:00"},
            "production_starting_interval '31/06/2026 10:00': expected a time such as"
            " 31/12/2026 23:00 or 2026-12-31T23:00:00Z",
        ),
        ({"issuing_body": ""}, "issuing_body is empty: expected who issued the bundle"),
        ({"is_storage": "maybe"}, "is_storage 'maybe': expected one of true, false"),
        (
            {"certificate_bundle_status": "Gone"},
            "certificate_bundle_status 'Gone': expected one of active, cancelled, claimed, expired,"
            " withdrawn, locked, reserved, bundle split, bundle_split",
        ),
    ],
)
def test_a_line_that_cannot_be_understood_is_refused_with_its_reason(changes, reason):
    found = frame(line(**changes))
    assert reasons(found) == [reason]


CERTIFICATES = st.builds(
    lambda first, count, start_hour, hours, status, source, device: {
        "issuing_body": "UBA",
        "issuance_id": f"W-{start_hour}",
        "device_id": device,
        "first_certificate": first,
        "last_certificate": first + count - 1,
        "quantity_wh": count,
        "energy_source": source,
        "production_started_at": datetime(2026, 1, 1, tzinfo=UTC) + timedelta(hours=start_hour),
        "production_ended_at": datetime(2026, 1, 1, tzinfo=UTC)
        + timedelta(hours=start_hour + hours),
        "expires_at": datetime(2028, 1, 1, tzinfo=UTC),
        "is_storage": False,
        "market_zone": "DE-LU",
        "status": status,
    },
    st.integers(0, 10**9),
    st.integers(1, 10**9),
    st.integers(0, 9000),
    st.integers(1, 9000),
    st.sampled_from(["active", "cancelled", "claimed", "withdrawn", "bundle_split"]),
    st.sampled_from(["solar", "wind", "hydro"]),
    st.one_of(st.none(), st.just("WIND-DE-01")),
)


def test_certificates_of_other_carriers_are_left_out():
    found = frame(line(energy_carrier="Hydrogen"))
    assert left_out(found) == ["energy_carrier Hydrogen: no electricity"]
    assert reasons(found) == []


@settings(max_examples=40, deadline=None)
@given(st.lists(CERTIFICATES, min_size=1, max_size=5))
def test_what_the_writer_writes_is_read_back(bundles):
    schema = {
        name: dtype
        for name, dtype in RAW_TABLES["certificates"].schema.create_empty().schema.items()
        if name in COLUMNS
    }
    sent = pl.DataFrame(bundles, schema=schema)
    found = frame(write_certificates(sent, local_time_zone="Europe/Berlin"))
    assert reasons(found) == []
    assert_frame_equal(accepted(found).select(COLUMNS), sent.select(COLUMNS))
