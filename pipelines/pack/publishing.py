"""Publishing packs: once each, and what the book says otherwise later as a numbered revision.

What belongs here: where packs lie, which revision is the newest, writing one whole or not at all.
What does not: what a pack says (`document.py`) and how it looks (`page.py`).

`packs/<week>/` below the published folder holds the pack that operations sees, which anybody may
read; `packs/<week>/energy/` and `packs/<week>/finance/` hold those with contract prices, each for
the group of its team alone. What was
published stays as it is; `revision-2/` and so on beside it are what the book said later.
"""

import json
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb
from filelock import FileLock

from pipelines.book import Book
from pipelines.pack import document, page
from pipelines.pack.document import Document, PackError
from pipelines.pack.sections import SECTIONS
from pipelines.published import query
from pipelines.published import week as weeks
from pipelines.published.access import groups, restrict
from pipelines.published.query import TEAMS

PUBLIC_TEAM = "operations"
# As many weeks before as the scorecard compares with.
EARLIER_WEEKS = 8


@dataclass(frozen=True)
class PublishedPack:
    """The newest pack of a team and week, after publishing."""

    team: str
    week: str
    folder: Path
    revision: int
    change_count: int
    """Values that differ from the revision before."""
    is_new: bool
    """Whether it was written now; else the book says what the pack said."""


def publish(
    book: Book,
    week: str | None = None,
    teams: Sequence[str] = TEAMS,
    progress: Callable[[str], None] | None = None,
) -> list[PublishedPack]:
    """Publish each team's pack of a week, by default the latest full one.

    A pack that was published is never written again: where the book now says something else, a
    revision is written beside it, and where it says the same, nothing.

    Raises:
        PackError: no such week in the book.
        QueryError: nothing is published yet.
    """
    chosen = week or weeks.latest_full(book)
    if chosen is None:
        raise PackError(["there is no full week in the book yet"])
    document.week_dates(chosen)
    packs = book.published / "packs"
    packs.mkdir(parents=True, exist_ok=True)
    published = []
    group_ids = groups(book)
    with FileLock(packs / ".lock"):
        for team in teams:
            if progress is not None:
                progress(f"{chosen} for {team}")
            published.append(_publish_team(book, team, chosen, group_ids.get(team)))
    return published


def folder(book: Book, week: str, team: str, revision: int = 1) -> Path:
    """Where a pack lies."""
    week_folder = book.published / "packs" / week
    team_folder = week_folder if team == PUBLIC_TEAM else week_folder / team
    return team_folder if revision == 1 else team_folder / f"revision-{revision}"


def newest(book: Book, week: str, team: str) -> Document | None:
    """The newest published pack of a week, as it was published; None without one."""
    found, revision = None, 1
    while (file := folder(book, week, team, revision) / "pack.json").exists():
        found, revision = json.loads(file.read_text(encoding="utf-8")), revision + 1
    return found


def _publish_team(book: Book, team: str, week: str, group_id: int | None) -> PublishedPack:
    with query.opened(book, team) as connection:
        now = document.read(book, team, week, connection)
        _compare_earlier(book, now, connection)
    before = newest(book, week, team)
    if before is not None:
        now["revision"] = before["revision"] + 1
        now["changes"] = document.changes(before, now)
        if not now["changes"]:
            place = folder(book, week, team, before["revision"])
            return PublishedPack(team, week, place, before["revision"], 0, is_new=False)
    place = folder(book, week, team, now["revision"])
    _write(now, place, group_id)
    return PublishedPack(team, week, place, now["revision"], len(now["changes"]), is_new=True)


def _compare_earlier(book: Book, pack: Document, connection: duckdb.DuckDBPyConnection) -> None:
    """Put into a pack what the book now says otherwise about the scorecards of weeks before."""
    team, week = pack["team"], pack["week"]
    scorecard = next(section for section in SECTIONS if section.name == "scorecard")
    folders = (book.published / "packs").glob("[0-9]*-W[0-9]*")
    earlier = sorted(found.name for found in folders if found.name < week)[-EARLIER_WEEKS:]
    for name in earlier:
        before = newest(book, name, team)
        if before is None:
            continue
        asked = {key: before[key] for key in ("week", "first_date", "last_date", "time_zone")}
        now = {"sections": {"scorecard": document.ask(connection, scorecard, asked)}}
        pack["compared_weeks"].append(name)
        pack["earlier_weeks"] += [
            {"week": name, "revision": before["revision"], **change}
            for change in document.changes(before, now, ["scorecard"])
        ]


def _write(pack: Document, place: Path, group_id: int | None) -> None:
    """Write the files of a pack; `pack.json` comes last, and without it nothing is published."""
    document.validate(pack)
    text = json.dumps(pack, ensure_ascii=False, allow_nan=False, indent=1)
    place.mkdir(parents=True, exist_ok=True)
    # What a run that was cut off left.
    for draft in place.glob("*.tmp"):
        draft.unlink()
    for_team = pack["team"] != PUBLIC_TEAM
    if for_team:
        restrict(place, group_id)
    for name, content in {
        "index.html": page.render(json.loads(text)),
        "pack.schema.json": document.SCHEMA_FILE.read_text(encoding="utf-8"),
        "pack.json": text + "\n",
    }.items():
        draft = _write_draft(place / name, content)
        # Temporary files are their writer's alone; a pack is for its team.
        if for_team:
            restrict(draft, group_id)
        else:
            draft.chmod(0o644)
        draft.replace(place / name)


def _write_draft(file: Path, text: str) -> Path:
    with tempfile.NamedTemporaryFile(
        "w", dir=file.parent, suffix=".tmp", delete=False, encoding="utf-8"
    ) as draft:
        draft.write(text)
        draft.flush()
        os.fsync(draft.fileno())
    return Path(draft.name)
