"""Reads what LLview writes of a job's GPUs, `GPU_<jobid>_node.dat`: a sample of a board a line.

What belongs here: that table of fields between spaces, under the names of its header. What does
not: LLview's job report in JSON, which tells means and extremes of whole jobs (in milliwatts), and
who ran the job, which Slurm's accounting tells better.

`ts` are seconds since 1970, `nodeid` is `<host>_<board>`. `gpu_pu` are watts here, `gpu_usage` is
percent, `gpu_sclk` MHz; `gpu_clkr` is NVML's mask of the reasons for clocks.
"""

import polars as pl

from pipelines.connectors.common import REJECT_REASON, Context, Tables, UnreadableFile
from pipelines.connectors.parsing import (
    CUT_OFF,
    UTC_TIME,
    Field,
    Problem,
    assemble,
    constant,
    decode,
    is_whole_text,
    number,
    problem,
    told_problems,
)

_EXPECTED = "LLview's table of a job's GPUs, GPU_<jobid>_node.dat"
_NEEDED = ("ts", "nodeid", "gpu_pu")
_READ = (*_NEEDED, "gpu_usage", "gpu_sclk", "gpu_clkr")
_NOTHING = ("nan", "-", "None")
_INT32_BLANK = 0x7FFFFFF0
_COUNTERS = (
    "energy_counter_millijoules",
    "power_violation_ns",
    "power_brake_ns",
    "thermal_violation_ns",
)


def read(content: bytes, *, file_name: str, context: Context) -> Tables:
    """Rows of `gpu_samples`: one per board and time.

    Raises:
        UnreadableFile: no text, LLview's job report, or no header with time, board and power.
    """
    del context
    try:
        text = decode(content, expected=_EXPECTED)
    except UnreadableFile as error:
        raise UnreadableFile(f"{file_name}: {error}") from error
    if text.lstrip()[:1] in ("{", "["):
        raise UnreadableFile(
            f"{file_name}: found JSON, such as LLview's report of a whole job, which has no"
            f" samples; expected {_EXPECTED}; land that"
        )
    return {"gpu_samples": _samples(_rows(text, file_name))}


def _rows(text: str, file_name: str) -> pl.DataFrame:
    """The fields of use as text, and `reject_reason` of lines that are not whole."""
    plain = pl.col("line").str.replace_all(r"\s+", " ").str.strip_chars(" ")
    told = pl.DataFrame({"line": text.splitlines()}, schema={"line": pl.String})
    lines = told.select(plain).filter(pl.col("line") != "")
    header = lines.item(0, "line").removeprefix("#").split() if lines.height else []
    missing = [name for name in _NEEDED if name not in header]
    if missing or len(set(header)) < len(header):
        raise UnreadableFile(
            f"{file_name}: found the header {header}, expected distinct names, among them"
            f" {', '.join(_NEEDED)}: {_EXPECTED}; send it with its first line"
        )
    rows = lines[1:].select(
        parts=pl.col("line").str.split_exact(" ", len(header) - 1),
        field_count=pl.col("line").str.count_matches(" ", literal=True) + 1,
    )
    is_last = pl.int_range(pl.len()) == pl.len() - 1
    problems = [
        Problem(is_last & (not is_whole_text(text)), pl.lit(CUT_OFF)),
        problem(
            pl.col("field_count") != len(header),
            field="line",
            found=pl.format("{} fields", "field_count"),
            expected=f"{len(header)} as in the header",
        ),
    ]
    reasons = told_problems(rows, problems)
    fields = rows.select(
        pl.col("parts").struct.field(f"field_{header.index(name)}").alias(name)
        if name in header
        else pl.lit(None, pl.String).alias(name)
        for name in _READ
    )
    # What such a line tells under a name may be another's.
    return fields.select(
        pl.when(reasons.is_null() & ~pl.col(name).is_in(_NOTHING)).then(name).alias(name)
        for name in _READ
    ).with_columns(reasons.alias(REJECT_REASON))


def _samples(rows: pl.DataFrame) -> pl.DataFrame:
    is_whole = pl.col(REJECT_REASON).is_null()
    seconds = pl.col("ts").str.extract(r"^(\d{9,11})$").cast(pl.Int64)
    board = pl.col("nodeid").str.extract_groups(r"^(.+)_(\d+)$").struct
    host, index = board.field("1"), board.field("2").cast(pl.Int64, strict=False)
    reasons = number("gpu_clkr", at_least=0)
    is_told = reasons.value < _INT32_BLANK
    usage = number("gpu_usage", at_least=0, at_most=100)
    no_time = problem(
        is_whole & seconds.is_null(), field="ts", found=pl.col("ts"), expected="seconds since 1970"
    )
    no_board = problem(
        is_whole & index.is_null(),
        field="nodeid",
        found=pl.col("nodeid"),
        expected="a host and its board such as jwb0263_00",
    )
    fields = {
        "sampled_at": Field((seconds * 1_000_000).cast(UTC_TIME), (no_time,)),
        "hostname": Field(host, (no_board,)),
        "gpu_index": Field(index.cast(pl.String)),
        "power_w": number("gpu_pu", at_least=0),
        "utilization_ratio": Field(usage.value / 100, usage.problems),
        "sm_clock_mhz": number("gpu_sclk", at_least=0),
        "power_limit_w": constant(None, pl.Float64),
        "default_power_limit_w": constant(None, pl.Float64),
        "clocks_event_reasons": Field(
            pl.when(is_told).then(reasons.value).cast(pl.Int64), reasons.problems
        ),
        **dict.fromkeys(_COUNTERS, constant(None, pl.Int64)),
        **dict.fromkeys(("mig_busy_ratio", "mig_told_ratio"), constant(None, pl.Float64)),
    }
    return assemble(rows, fields)
