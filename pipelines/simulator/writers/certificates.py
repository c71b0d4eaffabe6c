"""Certificate bundles as EnergyTag's granular certificate registry exports them.

What belongs here: the columns described in `connectors/certificates.py`, with byte order mark and
days first as the registry's own files have them. What does not: which bundles exist (the
simulator).
"""

import polars as pl

_TIME = "%d/%m/%Y %H:%M"
_ENERGY_SOURCES = {"solar": "solar_pv"}


def write_certificates(certificates: pl.DataFrame, *, local_time_zone: str) -> bytes:
    """Write one line per bundle, a certificate per watt-hour; times are UTC."""
    text = certificates.select(
        "issuance_id",
        pl.col("quantity_wh").alias("bundle_quantity"),
        pl.col("first_certificate").alias("certificate_bundle_id_range_start"),
        pl.col("last_certificate").alias("certificate_bundle_id_range_end"),
        pl.lit("electricity").alias("energy_carrier"),
        pl.col("energy_source").replace(_ENERGY_SOURCES),
        pl.lit(1).alias("face_value"),
        pl.col("production_started_at").dt.strftime(_TIME).alias("production_starting_interval"),
        pl.col("production_ended_at").dt.strftime(_TIME).alias("production_ending_interval"),
        pl.lit(local_time_zone).alias("local_timezone"),
        pl.col("expires_at").dt.strftime(_TIME).alias("expiry_datestamp"),
        pl.col("is_storage").cast(pl.String).str.to_uppercase(),
        "issuing_body",
        pl.col("market_zone").alias("issue_market_zone"),
        "device_id",
        pl.col("status")
        .str.replace("_", " ", literal=True)
        .str.to_titlecase()
        .alias("certificate_bundle_status"),
    )
    return text.write_csv(include_bom=True, line_terminator="\r\n").encode()
