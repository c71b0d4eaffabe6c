"""Expressions over columns of received text that several connectors need.

What belongs here: text to instant, text to number, and the words for a value that is neither. What
does not: anything that knows a format.
"""

import polars as pl


def utc_instant(text: pl.Expr) -> pl.Expr:
    """ISO 8601 text to an instant: its offset, UTC where it has none, null where unreadable."""
    iso = text.str.strip_chars().str.replace(r"^(\d{4}-\d{2}-\d{2}) ", "${1}T")
    with_offset = iso.str.to_datetime("%Y-%m-%dT%H:%M:%S%.f%#z", strict=False, time_unit="us")
    without = iso.str.to_datetime("%Y-%m-%dT%H:%M:%S%.f", strict=False, time_unit="us")
    return pl.coalesce(with_offset, without.dt.replace_time_zone("UTC"))


def number(text: pl.Expr) -> pl.Expr:
    """Text to a number, null where it is empty or not one; NaN and infinities stay."""
    return text.str.strip_chars().cast(pl.Float64, strict=False)


def reason(wrong: pl.Expr, *, field: str, found: pl.Expr, expected: str) -> pl.Expr:
    """The reject reason of a field where `wrong`, else null."""
    said = pl.concat_str(
        pl.lit(f"{field}: found '"),
        found.cast(pl.String).fill_null("nothing"),
        pl.lit(f"', expected {expected}"),
    )
    return pl.when(wrong).then(said)


def joined_reasons(*reasons: pl.Expr) -> pl.Expr:
    """All reasons of a row in one text, null where there is none."""
    text = pl.concat_str(*reasons, separator="; ", ignore_nulls=True)
    return pl.when(text != "").then(text)
