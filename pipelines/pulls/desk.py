"""What a source works with: its windows, its secrets, and the one way into landing.

What belongs here: files put into landing whole or not at all, how far a source has been asked, and
secrets kept out of messages. What does not: asking (`web.py` and the modules of the kinds).

How far each stream of a source has been asked stands in `pulls/<source>.json` beside landing, and
is written after the answer has landed. A pull that is cut off between the two asks once more, and
the file of the same name is replaced. What is deleted from landing is not asked for again, unless
it is within the overlap.
"""

import filecmp
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import IO, NamedTuple
from urllib.parse import quote, quote_plus

import orjson

from pipelines.book import Book
from pipelines.errors import BookError

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
Progress = Callable[[str], None]


class PullError(BookError):
    """A source was not pulled to the end; what has landed before stays."""


class TooLargeError(PullError):
    """An answer is larger than one may be."""


@dataclass(frozen=True)
class Limits:
    """How long and how large an answer may be, and how often the same thing is asked for."""

    attempts: int = 5
    silence_s: float = 60
    answer_s: float = 900
    answer_bytes: int = 2**30
    longest_pause_s: float = 600
    """A server that asks to wait longer is left for the next pull."""
    first_pause_s: float = 1


class Window(NamedTuple):
    """A span of time, its end excluded."""

    start: datetime
    end: datetime

    @property
    def name(self) -> str:
        """The span as file names have it."""
        return f"{self.start:%Y%m%dT%H%M%SZ}_{self.end:%Y%m%dT%H%M%SZ}"


class Secrets:
    """Values of environment variables, which are taken out of what is said."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self._known: set[str] = set()

    def get(self, variable: str) -> str:
        """The value of a variable.

        Raises:
            PullError: it is not set, or to what no secret is.
        """
        value = self._environment.get(variable, "").strip()
        if not value:
            raise PullError([f"{variable}: not found in the environment: set it"])
        if not value.isprintable():
            # A message would show it with the sign written out, and so not be known to hold it.
            raise PullError(
                [f"{variable}: found a line break or another sign in the middle: set it anew"]
            )
        self.add(value)
        return value

    def add(self, value: str) -> None:
        """Let a value that was given for a secret count as one."""
        self._known |= {value, quote(value, safe=""), quote_plus(value)}

    def without(self, text: str) -> str:
        """The text with every secret in it left out."""
        for value in sorted(self._known, key=len, reverse=True):
            text = text.replace(value, "…")
        return text


@dataclass
class Outcome:
    """What became of pulling a source: files landed, those that lay there alike, why it ended."""

    source: str
    landed: int = 0
    unchanged: int = 0
    causes: list[str] = field(default_factory=list)


@dataclass
class Desk:
    """What the module of a kind is given to pull one source."""

    book: Book
    outcome: Outcome
    now: datetime
    secrets: Secrets
    limits: Limits
    progress: Progress

    def windows(
        self,
        stream: str,
        first_day: date,
        *,
        overlap: timedelta,
        length: timedelta = DAY,
        past_length: timedelta | None = None,
        ahead: timedelta = timedelta(0),
    ) -> Iterator[Window]:
        """The windows of a stream that are to be asked for, the oldest first.

        They lie on whole multiples of their length since 1970, whenever they are asked for. What
        is older than the overlap, and so not asked for again, comes in windows of `past_length`.
        A window counts as asked for once the next one is taken.
        """
        first = datetime.combine(first_day, time(), tzinfo=UTC)
        asked = self._state().get(stream)
        start = first
        if asked is not None and asked["first_day"] <= first_day.isoformat():
            start = max(first, datetime.fromisoformat(asked["until"]) - overlap)
        start -= (start - EPOCH) % length
        while start < self.now + ahead:
            end = start + length
            if past_length is not None and not (start - EPOCH) % past_length:
                past_end = start + past_length
                end = past_end if past_end <= self.now - overlap else end
            window = Window(start, end)
            self.progress(f"{self.outcome.source}: {stream} {window.start:%Y-%m-%d %H:%M}")
            yield window
            until = min(window.end, self.now)
            self._remember(stream, {"first_day": first_day.isoformat(), "until": until.isoformat()})
            start = window.end

    def copied(self, stream: str) -> str | None:
        """What was noted of a file that was copied before."""
        return self._state().get(stream, {}).get("copied")

    def note_copied(self, stream: str, mark: str) -> None:
        """Note of a file that it has been copied, and what it was then."""
        self._remember(stream, {"copied": mark})

    def land(self, name: str, fill: Callable[[IO[bytes]], None]) -> None:
        """Put what `fill` writes into landing under a name, once all of it is there.

        Raises:
            PullError: as `fill` does; landing is as it was.
        """
        file = self.book.landing / name
        self._folder.mkdir(parents=True, exist_ok=True)
        draft = None
        try:
            with tempfile.NamedTemporaryFile(dir=self._folder, delete=False) as whole:
                draft = Path(whole.name)
                draft.chmod(0o644)
                fill(whole)
                whole.flush()
                os.fsync(whole.fileno())
            if file.is_file() and filecmp.cmp(draft, file, shallow=False):
                self.outcome.unchanged += 1
                return
            file.parent.mkdir(parents=True, exist_ok=True)
            draft.replace(file)
            self.outcome.landed += 1
        finally:
            if draft is not None:
                draft.unlink(missing_ok=True)

    @property
    def _folder(self) -> Path:
        return self.book.pulls

    @property
    def _state_file(self) -> Path:
        return self._folder / f"{self.outcome.source}.json"

    def _state(self) -> dict[str, dict[str, str]]:
        try:
            state: dict[str, dict[str, str]] = orjson.loads(self._state_file.read_bytes())
        except FileNotFoundError:
            return {}
        except orjson.JSONDecodeError as error:
            raise PullError(
                [f"{self._state_file}: is damaged: remove it to pull all of the source again"]
            ) from error
        return state

    def _remember(self, stream: str, what: dict[str, str]) -> None:
        state = self._state() | {stream: what}
        self._folder.mkdir(parents=True, exist_ok=True)
        draft = self._state_file.with_suffix(".tmp")
        with draft.open("wb") as file:
            file.write(orjson.dumps(state, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS))
            file.flush()
            os.fsync(file.fileno())
        draft.replace(self._state_file)
