"""The command: `python -m benchmarks`, or `make bench`.

What belongs here: how large each size is, the parts in their order, and the page they are written
to. What does not: what is measured (the other modules).
"""

import argparse
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from benchmarks import books, parsing, telemetry
from benchmarks.measure import PROJECT, Line

PAGE = PROJECT / "docs" / "performance.md"
_HEAD = """# Performance

Made by `make bench` and not by hand; run it to have the figures of your machine. Each way of doing
a work ran in a process of its own, and of several turns the median counts. CPU seconds are of all
threads and processes; memory is the peak of the largest process. The ratio is the CPU seconds of
Wattbook over those of the way in that line (above 1 Wattbook takes longer), or, of Wattbook's own
lines after the first of a work, over those of the first. Ways that come to another figure than
Wattbook, by more than a billionth of it, have no ratio.

A bare parser makes values of text and nothing more. The other ways to roll samples up work out the
energy alone; Wattbook also works out busy, idle, throttled and covered time, and what it does not
believe.
"""


@dataclass(frozen=True)
class Size:
    """How much of each is measured."""

    turns: int
    parsing_scale: float
    nodes: tuple[int, ...]
    """Of telemetry at 15 seconds, loaded and rolled up."""
    answer_nodes: int
    job_nodes: int
    job_days: int
    history: tuple[int, int] | None
    """Sites and days of the book beside which longer and larger ones stand."""
    has_demo: bool
    large: tuple[int, int] | None
    """Sites and years of the largest book."""


SIZES = {
    "quick": Size(1, 0.05, (20,), 2, 100, 20, None, False, None),
    "usual": Size(3, 1.0, (625,), 40, 2000, 178, (2, 30), True, None),
    "large": Size(3, 1.0, (625, 2500), 40, 2000, 178, (2, 30), True, (20, 5)),
}
PARTS = ("parsing", "telemetry", "jobs", "commands", "demo", "history", "large")


def parts(size: Size, asked: Sequence[str]) -> Iterator[Callable[[Path], Iterator[Line]]]:
    """What is measured, each in a folder of its own."""
    turns = size.turns
    if "parsing" in asked:
        yield lambda folder: parsing.lines(folder, size.parsing_scale, turns)
    if "telemetry" in asked:
        yield lambda folder: telemetry.json_lines(folder, size.answer_nodes)
        for nodes in size.nodes:
            yield lambda folder, nodes=nodes: telemetry.lines(folder, nodes, turns)
    if "jobs" in asked:
        yield lambda folder: telemetry.job_lines(folder, size.job_nodes, size.job_days, turns)
    if "commands" in asked:
        yield lambda folder: books.command_lines(folder, turns)
    if "demo" in asked and size.has_demo:
        yield books.demo_lines
    if "history" in asked and size.history:
        sites, days = size.history
        yield lambda folder: books.history_lines(folder, sites, days)
    if "large" in asked and size.large:
        of_large, years = size.large
        yield lambda folder: books.large_lines(folder, of_large, years)


def machine() -> str:
    """What it ran on, in a sentence."""
    processors = Path("/proc/cpuinfo")
    models = [
        line.partition(":")[2].strip()
        for line in (processors.read_text().splitlines() if processors.exists() else [])
        if line.startswith("model name")
    ]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1024**3
    packages = ", ".join(f"{name} {version(name)}" for name in ("duckdb", "polars", "dbt-core"))
    return (
        f"{models[0] if models else platform.machine()}, {os.cpu_count()} processors,"
        f" {memory:.0f} GiB; {platform.system()}, Python {platform.python_version()}, {packages};"
        f" {datetime.now(UTC):%Y-%m-%d}"
    )


def row(line: Line) -> str:
    """A line of the table in Markdown."""
    cost = line.cost
    cells = ["", "", ""]
    if cost is not None:
        cells = [f"{cost.cpu_s:.2f}", f"{cost.wall_s:.1f}", f"{cost.peak_mb:.0f}"]
    ratio = "" if line.ratio is None else f"{line.ratio:.2f}"
    return f"| {line.work} | {line.way} | {' | '.join(cells)} | {ratio} | {line.note} |"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what is asked for, say each line as it is known, and write the page."""
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__.splitlines()[0])
    parser.add_argument("--size", choices=SIZES, default="usual")
    parser.add_argument("--only", choices=PARTS, nargs="+", default=PARTS, metavar="PART")
    parser.add_argument("--page", type=Path, default=PAGE, help="where the table is written")
    parser.add_argument("--folder", type=Path, help="where books are made; a temporary folder")
    told = parser.parse_args(arguments)
    rows = [
        "| work | way | CPU s | wall s | peak MB | ratio | |",
        "|---|---|--:|--:|--:|--:|---|",
    ]
    print("\n".join(rows), flush=True)
    if told.folder is not None:
        told.folder.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="bench", dir=told.folder))
    try:
        for number, part in enumerate(parts(SIZES[told.size], told.only)):
            for line in part(folder / str(number)):
                rows.append(row(line))
                print(rows[-1], flush=True)
            shutil.rmtree(folder / str(number), ignore_errors=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        command = f"`python -m benchmarks {' '.join(sys.argv[1:])}`".replace(" `", "`")
        page = [_HEAD, f"Measured by {command} on {machine()}.", "", *rows, ""]
        told.page.write_text("\n".join(page))


if __name__ == "__main__":
    main()
