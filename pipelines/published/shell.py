"""A shell on the published book of a team.

What belongs here: reading statements from a person, completing names, history. What does not:
answering (`query.py`) and laying answers out (`display.py`), which the caller hands in.
"""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import duckdb
import platformdirs
from prompt_toolkit import PromptSession
from prompt_toolkit.buffer import Buffer
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.enums import DEFAULT_BUFFER
from prompt_toolkit.filters import has_focus
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

from pipelines.book import Book
from pipelines.errors import BookError
from pipelines.published import query

HELP = """\
A statement ends with ; and may go over several lines. Tab completes names, ctrl-C cancels.
\\d        tables            \\d NAME   columns of a table
.help     this text         \\q        leave (or ctrl-D)"""


class Names(Completer):
    """Completes tables, columns of the tables that a statement names, and keywords of SQL."""

    def __init__(self, columns: dict[str, list[str]], keywords: list[str]) -> None:
        self.columns = columns
        self.keywords = keywords

    def get_completions(
        self, document: Document, complete_event: CompleteEvent
    ) -> Iterator[Completion]:
        """What begins as the word before the cursor does: columns, tables, then keywords."""
        word = document.get_word_before_cursor(pattern=re.compile(r"\w+"))
        if not word:
            return
        named = [name for name in re.findall(r"\w+", document.text) if name in self.columns]
        columns = [column for name in dict.fromkeys(named) for column in self.columns[name]]
        for one in dict.fromkeys([*columns, *self.columns, *self.keywords]):
            if one.lower().startswith(word.lower()):
                yield Completion(one, -len(word))


def run(
    book: Book, team: str, ask: Callable[[str], None], describe: Callable[[str | None], None]
) -> None:
    """Read statements until the person leaves; `ask` shows an answer, `describe` tables or one.

    Each statement asks what is published at that time. What goes wrong with one is said, and the
    next one read.
    """
    session: PromptSession[str] = PromptSession(
        f"{team}> ",
        completer=_names(book, team),
        history=_history(),
        multiline=True,
        prompt_continuation=lambda width, *_: ". ".rjust(width),
        key_bindings=_keys(),
        complete_while_typing=False,
    )
    print(f"{team}: what is published in {book.published}; .help says how, \\q leaves")
    while True:
        try:
            text = session.prompt().strip()
        except KeyboardInterrupt:
            continue
        except EOFError:
            return
        command, _, name = text.rstrip("; ").partition(" ")
        try:
            if command == r"\q":
                return
            if command == ".help":
                print(HELP)
            elif command == r"\d":
                describe(name.strip() or None)
            elif command.startswith(("\\", ".")):
                print(f"error: found {command}, expected .help, \\d or \\q")
            elif command:
                ask(text)
        except BookError as error:
            for cause in error.causes:
                print(f"error: {' '.join(cause.split())}")
        except KeyboardInterrupt:
            print("cancelled")


def is_whole(text: str) -> bool:
    """Whether what was typed is to be run: a command, or a statement that `;` ends."""
    stripped = text.strip()
    if not stripped or stripped.startswith(("\\", ".")):
        return True
    if not stripped.endswith(";"):
        return False
    try:
        return bool(duckdb.extract_statements(stripped))
    except duckdb.ParserException as error:
        # A semicolon within a text that goes on.
        return "unterminated" not in str(error)


def _keys() -> KeyBindings:
    keys = KeyBindings()

    @keys.add("enter", filter=has_focus(DEFAULT_BUFFER))
    def _(event: KeyPressEvent) -> None:
        buffer: Buffer = event.current_buffer
        if is_whole(buffer.text):
            buffer.validate_and_handle()
        else:
            buffer.insert_text("\n")

    return keys


def _names(book: Book, team: str) -> Names:
    with query.opened(book, team) as connection:
        columns = connection.execute(
            "select table_name, list(column_name order by column_index) from duckdb_columns()"
            " where schema_name = 'marts' group by table_name order by table_name"
        ).fetchall()
        keywords = connection.execute(
            "select keyword_name from duckdb_keywords()"
            " where keyword_category in ('reserved', 'type_function') order by keyword_name"
        ).fetchall()
    return Names(dict(columns), [name for (name,) in keywords])


def _history() -> History:
    """What was typed before, in the user's state folder; none where that cannot be written."""
    file = Path(platformdirs.user_state_dir("wattbook")) / "sql_history"
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        # Statements name contracts: they are the user's alone.
        file.touch(mode=0o600)
        with file.open("a"):
            return FileHistory(file)
    except OSError:
        return InMemoryHistory()
