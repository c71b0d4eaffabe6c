"""Text to values for the connectors: safe decoding, and columns with the reasons they reject.

What belongs here: what several formats need alike (UTF-8, CSV, XML, times, numbers, the words of a
reason). What does not: the meaning of any one format's fields.

One set of rules for all formats. A number is finite. A time carries Z or an offset; without one it
is rejected, unless the format itself says that its times are UTC (`is_utc`). Space around a value
does not count. Nothing is guessed.

`parsed_number` and `parsed_instant` give the value, null where the text is none. A `Field` is a
column in the making: that value, and the problems that reject a row, told in words.
"""

import csv
import io
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache, partial
from itertools import islice, zip_longest
from xml.etree.ElementTree import Element, ParseError, fromstring
from xml.parsers.expat import ExpatError, ParserCreate

import polars as pl

from pipelines.connectors.common import LEFT_OUT_REASON, REJECT_REASON, UnreadableFile

UTC_TIME = pl.Datetime("us", "UTC")
_ZONE = r"(Z|z|[+-]\d{2}(:?\d{2})?)$"
_CHUNK_ROWS = 50_000
CUT_OFF = (
    "the file ends within this row: expected a line end after it; send the whole file again, or end"
    " the line if the row is whole"
)
DAMAGED_TABLE = (pl.exceptions.PolarsError, pl.exceptions.PanicException)
"""What Polars raises on a file it cannot read: it asserts some lengths within Parquet."""


@dataclass(frozen=True)
class Problem:
    """Why rows are rejected: which rows, and what is said of them."""

    is_there: pl.Expr
    told: pl.Expr


@dataclass(frozen=True)
class Field:
    """A column in the making, and what is wrong with it: one problem a row at most.

    Values of text columns stand in the rows that `assemble` lays out, parsed once under the names
    that `_parsed` gives.
    """

    value: pl.Expr
    problems: tuple[Problem, ...] = ()

    def required(self, name: str, expected: str) -> "Field":
        """The same field, with a problem where the value is null and nothing says why."""
        is_unexplained = self.value.is_null() & ~self.has_problem()
        missing = problem(is_unexplained, field=name, found=None, expected=expected)
        return Field(self.value, (*self.problems, missing))

    def has_problem(self) -> pl.Expr:
        """Whether something is wrong with the field."""
        there = (problem.is_there.fill_null(value=False) for problem in self.problems)
        return pl.any_horizontal(pl.lit(value=False), *there)


def time_in_name(file_name: str) -> datetime | None:
    """The last time in a file's name, as in `node0001_20261101T000000Z.prom`; null without one."""
    times = re.findall(r"_(\d{8}T\d{6}Z)(?=\.|$)", file_name)
    try:
        return datetime.strptime(times[-1], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC) if times else None
    except ValueError:
        return None


def decode(content: bytes, *, expected: str) -> str:
    """Decode UTF-8 text, with or without byte order mark.

    Raises:
        UnreadableFile: for an empty file, another encoding or a binary file.
    """
    if not content.strip():
        raise UnreadableFile(f"the file is empty: expected {expected}")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UnreadableFile(
            f"byte {error.start} is not UTF-8: expected {expected} in UTF-8; save it as UTF-8"
        ) from error
    if "\x00" in text:
        raise UnreadableFile(f"the file holds NUL characters: expected {expected} as plain text")
    return text


def csv_records(text: str, *, expected: str, delimiter: str = ",") -> Iterator[list[str]]:
    """The records of a text with separators, blank lines left out; any line ends.

    Raises:
        UnreadableFile: for broken quoting, which may have swallowed lines.
    """
    # Lines end in CR, LF or both, as the machine has it that wrote them.
    lines = csv.reader(io.StringIO(text, newline=None), delimiter=delimiter, strict=True)
    try:
        yield from (record for record in lines if len(record) > 1 or any(map(str.strip, record)))
    except csv.Error as error:
        raise UnreadableFile(
            f"line {lines.line_num} is no CSV ({error}): expected {expected}; send the whole file"
            " again"
        ) from error


def csv_rows(content: bytes, *, expected: str, delimiter: str = ",") -> pl.DataFrame:
    """Rows of a CSV with header, all columns text, empty fields null, names as in the header.

    A row with too few or too many fields is kept with null fields and a `reject_reason`, as is the
    last row where no line end says that it is whole. A row without any value is left out.

    Raises:
        UnreadableFile: when it is no CSV with a header of distinct names.
    """
    text = decode(content, expected=expected)
    rows = _without_faults(content) if delimiter == "," else None
    if rows is None:
        rows = _line_by_line(text, expected, delimiter)
    if not is_whole_text(text):
        is_last = pl.int_range(pl.len()) == pl.len() - 1
        cut = pl.when(is_last).then(pl.lit(CUT_OFF))
        rows = rows.with_columns(pl.coalesce(cut, REJECT_REASON).alias(REJECT_REASON))
    if all(column.null_count() for column in rows.get_columns()):
        is_empty = pl.all_horizontal(pl.all().is_null())
        if rows.select(is_empty.any()).item():
            reason = pl.when(is_empty).then(pl.lit("a row without any value"))
            rows = rows.with_columns(reason.alias(LEFT_OUT_REASON))
    return rows


def is_whole_text(text: str) -> bool:
    """Whether the last line has an end; a text that was cut off mostly has none."""
    return text.endswith(("\n", "\r"))


def _without_faults(content: bytes) -> pl.DataFrame | None:
    """Rows of a CSV in which nothing is wrong with any line; None where something is or may be.

    Polars reads much faster than `csv`, and does not tell what is wrong.
    """
    header, _, body = content.partition(b"\n")
    names = [name.strip() for name in header.decode("utf-8-sig").split(",")]
    plain = _QUOTED.sub(b"", body)
    is_odd = len({*names} - {""}) < len(names) or len(names) < 2 or b'"' in header
    if is_odd or b'"' in plain or b"\r" in content or not body:
        return None
    count = plain.count(b"\n") + (not plain.endswith(b"\n"))
    # A line with too many fields is an error to Polars, one with too few is not.
    if plain.count(b",") != count * (len(names) - 1):
        return None
    try:
        rows = pl.read_csv(body, has_header=False, schema=dict.fromkeys(names, pl.String))
    except pl.exceptions.PolarsError:
        return None
    if len(rows) != count:
        return None
    return _fields(rows).with_columns(pl.lit(None, pl.String).alias(REJECT_REASON))


_QUOTED = re.compile(rb'"(?<![^,\n]")[^"]*+(?:""[^"]*+)*+"(?![^,\n])')
"""A field in quotes, from one separator to the next."""


def _fields(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.select(pl.all().str.strip_chars().replace("", None))


def _line_by_line(text: str, expected: str, delimiter: str) -> pl.DataFrame:
    records = csv_records(text, expected=expected, delimiter=delimiter)
    header = next(records, None)
    if header is None:
        raise UnreadableFile(f"the file holds no line: expected {expected}")
    names = [name.strip() for name in header]
    if len(set(names)) != len(names) or "" in names:
        raise UnreadableFile(
            f"header '{','.join(names)[:200]}' has an empty or repeated name: expected {expected}"
        )
    return pl.concat(_chunks(records, names, expected))


def _chunks(
    records: Iterator[list[str]], names: list[str], expected: str
) -> Iterator[pl.DataFrame]:
    """Frames of so many records that their text is never in memory twice; at least one."""
    width = len(names)
    while True:
        chunk = list(islice(records, _CHUNK_ROWS))
        counts = pl.Series(map(len, chunk), dtype=pl.Int64)
        is_odd = counts != width
        for record in (chunk[row] for row in is_odd.arg_true()):
            if any("\n" in field for field in record):
                raise UnreadableFile(
                    f"a row that starts with '{','.join(record)[:60]}' goes over lines and has"
                    f" {len(record)} fields, not {width}: a quote is left open; expected"
                    f" {expected}; send the whole file again"
                )
        told = dict(zip(names, zip_longest(*chunk), strict=False))
        empty = {name: [None] * len(chunk) for name in names[len(told) :]}
        frame = _fields(pl.DataFrame(told | empty, dict.fromkeys(names, pl.String)))
        if is_odd.any():
            frame = frame.select(pl.when(~is_odd).then(pl.all()))
        reason = pl.format(f"the row has {{}} fields: expected {width} as in the header", counts)
        yield frame.with_columns(pl.when(is_odd).then(reason).alias(REJECT_REASON))
        if len(chunk) < _CHUNK_ROWS:
            return


def require_columns(rows: pl.DataFrame, names: list[str], *, expected: str) -> None:
    """Raise UnreadableFile when a column is not in the header."""
    missing = [name for name in names if name not in rows.columns]
    if missing:
        own = (REJECT_REASON, LEFT_OUT_REASON)
        found = ", ".join(name for name in rows.columns if name not in own)[:300]
        raise UnreadableFile(
            f"column {', '.join(missing)} not in the header ({found}): expected {expected}"
        )


def parse_xml(content: bytes, *, expected: str) -> Element:
    """Root element of an XML document, its names without namespaces; no document type is allowed.

    Only a document type can declare entities, which may unfold without end or read other files.

    Raises:
        UnreadableFile: when it is not well-formed, or declares a document type.
    """
    if not content.strip():
        raise UnreadableFile(f"the file is empty: expected {expected}")

    def refuse(*_: object) -> None:
        raise UnreadableFile(
            f"the XML declares a document type or entities: expected {expected} without; "
            "ask the sender for plain XML"
        )

    # The parser that makes elements shows no document type, so one that does goes first.
    parser = ParserCreate()
    parser.StartDoctypeDeclHandler = refuse
    try:
        parser.Parse(content, True)
        root = fromstring(content)
    except UnreadableFile:
        raise
    except (ExpatError, ParseError, ValueError, LookupError) as error:
        raise UnreadableFile(f"not well-formed XML ({error}): expected {expected}") from error
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
    return root


def child_text(element: Element, *path: str) -> str | None:
    """Text at a path of names below an element; null when absent or blank."""
    for name in path:
        found = element.find(name)
        if found is None:
            return None
        element = found
    return (element.text or "").strip() or None


@lru_cache
def text(column: str) -> Field:
    """A text column as it is."""
    return Field(pl.col(column))


@lru_cache
def instant(column: str, *, is_utc: bool = False) -> Field:
    """A time with a zone, ISO 8601; `is_utc` where the format says so of times without one."""
    raw = pl.col(column)
    parsed = _parsed("UTC instant" if is_utc else "instant", column)
    no_time = problem(
        raw.is_not_null() & parsed.is_null(),
        field=column,
        found=raw,
        expected="a time such as 2026-04-05T12:00:00Z",
    )
    without_zone = pl.when(parsed_instant(raw, is_utc=True).is_not_null()).then(
        pl.format(f"{column} '{{}}' has no time zone: expected Z or an offset such as +02:00", raw)
    )
    return Field(parsed, (Problem(no_time.is_there, pl.coalesce(without_zone, no_time.told)),))


def parsed_instant(raw: pl.Expr, *, is_utc: bool = False) -> pl.Expr:
    """UTC time of ISO 8601 text (`T` or a space before the time of day), null where it is none.

    Seconds may be left out. Text without a zone is null, or UTC where `is_utc`.
    """
    iso = raw.str.strip_chars().str.replace(r"^(\d{4}-\d{2}-\d{2}) ", "${1}T")
    if is_utc:
        iso = iso.str.replace(r"^(.{10}T[\d:.]+)$", "${1}Z")
    iso = iso.str.replace(r"(T\d{2}:\d{2})" + _ZONE, "${1}:00${2}").str.replace(
        r"(T.*[+-]\d{2})$", "${1}:00"
    )
    in_form = pl.when(iso.str.contains(r"^\d{4}-\d{2}-\d{2}T.*" + _ZONE)).then(iso)
    return in_form.str.to_datetime(
        "%Y-%m-%dT%H:%M:%S%.f%#z", strict=False, time_unit="us", time_zone="UTC"
    )


@lru_cache
def number(column: str, *, at_least: float | None = None, at_most: float | None = None) -> Field:
    """A finite number within bounds; null where the text is null."""
    raw, parsed = pl.col(column), _parsed("number", column)
    is_fine = parsed.is_not_null()
    bounds = ""
    if at_least is not None:
        is_fine &= parsed >= at_least
        bounds += f", at least {at_least:g}"
    if at_most is not None:
        is_fine &= parsed <= at_most
        bounds += f", at most {at_most:g}"
    is_wrong = raw.is_not_null() & ~is_fine.fill_null(value=False)
    expected = f"a number{bounds}"
    return Field(
        pl.when(is_fine).then(parsed) if bounds else parsed,
        (problem(is_wrong, field=column, found=raw, expected=expected),),
    )


def parsed_number(raw: pl.Expr) -> pl.Expr:
    """Finite number of a text, null where it is none."""
    parsed = raw.str.strip_chars().cast(pl.Float64, strict=False)
    return pl.when(parsed.is_finite()).then(parsed)


def code(column: str, values: dict[str, str]) -> Field:
    """A text translated by a table of codes, upper and lower case alike."""
    raw = pl.col(column)
    known = {key.lower(): value for key, value in values.items()}
    value = raw.str.to_lowercase().replace_strict(known, default=None, return_dtype=pl.String)
    is_unknown = raw.is_not_null() & value.is_null()
    expected = f"one of {', '.join(values)}"
    return Field(value, (problem(is_unknown, field=column, found=raw, expected=expected),))


def constant(value: object, dtype: type[pl.DataType] = pl.String) -> Field:
    """The same value in every row."""
    return Field(pl.lit(value, dtype))


def problem(wrong: pl.Expr, *, field: str, found: pl.Expr | None, expected: str) -> Problem:
    """What is wrong with a field where `wrong`; `found` is None or null if it is empty."""
    empty = pl.lit(f"{field} is empty: expected {expected}")
    if found is None:
        return Problem(wrong, empty)
    said = pl.concat_str(pl.lit(f"{field} '"), shown(found), pl.lit(f"': expected {expected}"))
    return Problem(wrong, pl.coalesce(said, empty))


def problem_in(column: str) -> Problem:
    """What a column of text says is wrong, where it says something."""
    return Problem(pl.col(column).is_not_null(), pl.col(column))


def told_problems(rows: pl.DataFrame, problems: Sequence[Problem]) -> pl.Series:
    """All problems of each row in one text, null where it has none.

    Texts are made for the rows that need one: most files have none.
    """
    masks = [f"problem {number}" for number in range(len(problems))]
    judged = rows.with_columns(
        one.is_there.fill_null(value=False).alias(mask)
        for mask, one in zip(masks, problems, strict=True)
    )
    is_wrong = judged.select(pl.any_horizontal(pl.lit(value=False), *masks)).to_series()
    reasons = pl.repeat(None, len(rows), dtype=pl.String, eager=True)
    if not is_wrong.any():
        return reasons
    told = pl.concat_str(
        *(pl.when(mask).then(one.told) for mask, one in zip(masks, problems, strict=True)),
        separator="; ",
        ignore_nulls=True,
    )
    return reasons.scatter(is_wrong.arg_true(), judged.filter(is_wrong).select(told).to_series())


def shown(raw: pl.Expr) -> pl.Expr:
    """Text for a message, cut when long."""
    return raw.cast(pl.String).str.slice(0, 60)


def assemble(
    rows: pl.DataFrame, fields: dict[str, Field], *, problems: tuple[Problem, ...] = ()
) -> pl.DataFrame:
    """Columns of the fields, and `reject_reason` from the fields, `problems` and the rows' own.

    A row that has a `left_out_reason` keeps it and is not rejected.
    """
    if rows.is_empty():
        # Polars panics where the hour that clocks repeat is told by a column without rows.
        return assemble(rows.clear(1), fields, problems=problems).clear()
    every = [*(problem for field in fields.values() for problem in field.problems), *problems]
    laid_out = _with_parsed(rows, [*(field.value for field in fields.values()), *every])
    found = pl.lit(told_problems(laid_out, every))
    if REJECT_REASON in rows.columns:
        found = pl.coalesce(REJECT_REASON, found)
    left_out = [pl.col(LEFT_OUT_REASON)] if LEFT_OUT_REASON in rows.columns else []
    if left_out:
        found = pl.when(left_out[0].is_null()).then(found)
    return laid_out.select(
        *(field.value.alias(name) for name, field in fields.items()),
        found.alias(REJECT_REASON),
        *left_out,
    )


def _parsed(kind: str, column: str) -> pl.Expr:
    """The column that `assemble` parses from the text of another, once for all that ask for it."""
    return pl.col(f"{kind} of {column}")


def _with_parsed(rows: pl.DataFrame, asked: Sequence[pl.Expr | Problem]) -> pl.DataFrame:
    expressions = (
        expression
        for one in asked
        for expression in ((one.is_there, one.told) if isinstance(one, Problem) else (one,))
    )
    names = {name for expression in expressions for name in expression.meta.root_names()}
    parsed = []
    for name in sorted(names.difference(rows.columns)):
        kind, _, column = name.partition(" of ")
        parsed.append(_parser(kind, rows[column])(pl.col(column)).alias(name))
    return rows.with_columns(parsed)


def _parser(kind: str, told: pl.Series) -> Callable[[pl.Expr], pl.Expr]:
    """How text is parsed: times that are all of the commonest form without looking for others."""
    if kind == "number":
        return parsed_number
    if told.str.contains(r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}Z$").all():
        return lambda raw: raw.str.to_datetime(
            "%Y-%m-%dT%H:%M:%SZ", strict=False, time_unit="us", time_zone="UTC"
        )
    return partial(parsed_instant, is_utc=kind == "UTC instant")


_MIG_PROFILE = r"(?:(\d)c\.)?(\d)g\.\d+gb"  # slices of a compute instance, else of all of it
_MIG_OF_FOUR = r"1g\.6gb|2g\.12gb|4g\.24gb|2g\.48gb|4g\.96gb"


def board_share(profile: pl.Expr) -> pl.Expr:
    """Share of a GPU board that an instance of this MIG profile is, null where it names none.

    Counted in compute slices: 3g.40gb is three of the board's seven; boards whose memory shows that
    they have four (A30, RTX PRO 6000) count in quarters.
    """
    slices = pl.coalesce(profile.str.extract(_MIG_PROFILE, group) for group in (1, 2))
    of_board = pl.when(profile.str.contains(_MIG_OF_FOUR)).then(4).otherwise(7)
    return slices.cast(pl.Float64) / of_board
