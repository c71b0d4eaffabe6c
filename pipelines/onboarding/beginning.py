"""Begins a book: reads a file of answers, writes reference files, says which files land where.

What belongs here: all of that as one, none of it where any of it is wrong. What does not: asking
(`questions.py`), the text of the files (`declarations.py`), and which figure has what it needs
(`needs.py`).
"""

import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter, ValidationError

from pipelines import reference
from pipelines.connectors.sacct import FIELDS
from pipelines.errors import BookError
from pipelines.onboarding.answers import OrganizationAnswers, SiteAnswers
from pipelines.onboarding.declarations import declarations
from pipelines.onboarding.questions import causes
from pipelines.reference.documents import SCHEMAS, Mistakes, Reader
from pipelines.reference.expectations import schema_of

ANSWERS = "answers.yml"
"""Where the answers are kept, beside the reference folder."""

_METERS = {
    "nem12": "NEM12 or NEM13 of the meter operator; the NMI is the meter's number",
    "green_button": "Green Button XML; the last part of its UsagePoint is the meter's number",
    "mscons": "MSCONS of the meter operator",
    "readings_csv": "CSV with meter_id,interval_start_utc,interval_seconds,quantity,unit,direction,"
    "quality; of any other columns mappings.yml says what they mean",
}
_TELEMETRY = {
    "prometheus": "query_range answers as JSON, or exports as Parquet or CSV, of"
    " DCGM_FI_DEV_POWER_USAGE and DCGM_FI_DEV_GPU_UTIL at least",
    "dcgm_scrape": "what dcgm-exporter answers on /metrics, as <host>_<YYYYMMDDTHHMMSSZ>.prom",
    "redfish": "answers of Redfish's Power, as <host>_<YYYYMMDDTHHMMSSZ>.json",
    "kepler": "query_range answers of Kepler's metrics",
}
_PRICES = {
    "entsoe": "XML of ENTSO-E's day-ahead prices (A44)",
    "prices_csv": "ERCOT's or CAISO's report, or a CSV with Datetime (UTC) and Price (EUR/MWh) that"
    " is named after its zone",
}
_CARBON = {
    "electricity_maps": "CSV of its portal or answers of its API",
    "watttime": "answers of its API for co2_aoer",
}
_EVENTS = {
    "outages_csv": "CSV with event_id,target,event_type,started_at,ended_at,import_limit_kw",
    "openadr": "the program's events as JSON, in full/<program>/ where it is every one",
}
_BATTERIES = {
    "battery_csv": "CSV with timestamp,battery_id,state_of_charge_pct,power_kw,state",
    "sunspec": "SunSpec models as JSON",
}


def read_answers(file: Path) -> OrganizationAnswers:
    """The answers in a file.

    Raises:
        BookError: It is not there, or every mistake in it.
    """
    if not file.is_file():
        raise BookError([f"{file}: not found: name a file of answers, as `wattbook init` writes"])
    mistakes = Mistakes()
    answers: OrganizationAnswers = Reader(file.parent, mistakes).one(file.name, OrganizationAnswers)
    if mistakes.causes:
        raise reference.ReferenceErrors(mistakes.causes)
    return answers


def write_answers(folder: Path, given: dict[str, Any]) -> Path:
    """Keep what was answered, to be corrected and read again; the file."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / ANSWERS
    text = yaml.safe_dump(given, sort_keys=False, allow_unicode=True, width=1000)
    file.write_text(
        f"# yaml-language-server: $schema=reference/{SCHEMAS}/answers.json\n{text}",
        encoding="utf-8",
    )
    return file


def checked(given: dict[str, Any], kept: Path) -> OrganizationAnswers:
    """What was answered, once it fits together.

    Raises:
        BookError: It does not; it says how to mend it in the file that keeps it.
    """
    try:
        return OrganizationAnswers.model_validate(given)
    except ValidationError as error:
        found = list(causes(OrganizationAnswers, error, given))
        again = f"correct {kept} and run `wattbook init --from {kept}`"
        raise BookError([*found, again]) from None


def begin(folder: Path, answers: OrganizationAnswers, *, is_forced: bool = False) -> list[Path]:
    """Write the reference files that answers come to, and the schemas editors read; the files.

    Args:
        folder: The reference folder of the book.
        answers: What was answered.
        is_forced: Whether files that are there may be replaced.

    Raises:
        BookError: Some are there, or they would not be right together; nothing is written.
    """
    refuse_known(folder, is_forced=is_forced)
    files = declarations(answers)
    with tempfile.TemporaryDirectory() as scratch:
        tried = Path(scratch) / "reference"
        if folder.exists():
            shutil.copytree(folder, tried)
        _write(tried, files)
        reference.load(tried)
    written = _write(folder, files)
    reference.write_schemas(folder)
    schema = schema_of(TypeAdapter(OrganizationAnswers))
    (folder / SCHEMAS / "answers.json").write_text(
        json.dumps(schema, indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    return written


def refuse_known(folder: Path, *, is_forced: bool) -> None:
    """Leave a reference folder that has files alone, unless they may be replaced.

    Raises:
        BookError: It has some.
    """
    there = sorted(
        file.relative_to(folder).as_posix()
        for file in folder.rglob("*")
        if file.is_file() and SCHEMAS not in file.parts
    )
    if there and not is_forced:
        more = f" and {len(there) - 3} more" if len(there) > 3 else ""
        raise BookError(
            [
                f"{folder}: found {', '.join(there[:3])}{more}, expected no reference data yet:"
                " choose a folder of your own with --data-dir, or replace files with --force"
            ]
        )


def _write(folder: Path, files: dict[str, str]) -> list[Path]:
    for name, text in files.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    return [folder / name for name in files]


def landing(answers: OrganizationAnswers) -> Iterator[tuple[str, str, bool]]:
    """(folder below landing/, what belongs there, whether `wattbook pull` brings it), each once."""
    seen = set()
    for site in answers.sites:
        for row in _landing_of(site):
            if row not in seen:
                seen.add(row)
                yield row
    if answers.clouds:
        yield "focus", "FOCUS exports of the bill, CSV or Parquet", False


def _landing_of(site: SiteAnswers) -> Iterator[tuple[str, str, bool]]:
    if site.readings is not None:
        yield site.readings, _METERS[site.readings], False
    for battery in site.batteries:
        yield battery.source, _BATTERIES[battery.source], False
    if site.telemetry is not None:
        yield site.telemetry, _TELEMETRY[site.telemetry], site.prometheus_url is not None
    scheduler, prices, carbon = site.scheduler, site.prices, site.carbon
    if scheduler is not None and scheduler.kind == "opencost":
        what = "each day's answer to /allocation/compute?window=yesterday&aggregate=namespace,pod"
        yield f"opencost/{scheduler.cluster}", what, False
    elif scheduler is not None and scheduler.kind == "slurmrestd":
        yield f"sacct/{scheduler.cluster}", "answers of slurmrestd's /slurmdb jobs", True
    elif scheduler is not None:
        what = (
            "of each day what TZ=UTC SLURM_TIME_FORMAT=%Y-%m-%dT%H:%M:%S%z sacct --allusers"
            " --duplicates --parsable2 --starttime=… --endtime=… prints with"
            f" --format={','.join(FIELDS)}"
        )
        yield f"sacct/{scheduler.cluster}", what, scheduler.login_host is not None
    if prices is not None:
        yield prices.source, _PRICES[prices.source], prices.token_variable is not None
    if carbon is not None:
        yield carbon.source, _CARBON[carbon.source], carbon.token_variable is not None
    if site.grid_events is not None:
        yield site.grid_events.source, _EVENTS[site.grid_events.source], False
