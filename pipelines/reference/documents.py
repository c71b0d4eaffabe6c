"""YAML files with the line of every field, and the mistakes found in them.

What belongs here: reading a file against its model, and saying where and how it is wrong. What does
not: which files there are (`loading.py`) and what they mean.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, TypeAdapter, ValidationError

from pipelines.errors import BookError
from pipelines.reference.expectations import schema_of
from pipelines.reference.messages import place_of, sentence

Place = Sequence[str | int]
"""Where a field stands in its document: names of fields and indexes of lists."""

SCHEMAS = ".schemas"
"""Folder of what editors know of the files (`schemas.py`)."""

MOST_SHOWN = 20
"""Mistakes of one file that are told at once."""

_WHERE = re.compile(r"([\w./-]+\.[a-zA-Z]+)(?::(\d+))?: ")

DEEPEST = 30
MOST_VALUES = 200_000
"""Of one file, every alias written out."""


class ReferenceErrors(BookError):  # noqa: N818 - it carries all mistakes of a folder
    """Every mistake in the reference data; an example may follow a cause on lines of its own."""

    def lines(self) -> Iterator[str]:
        """Mistakes by file and line, of each file the first `MOST_SHOWN`, and how many in all."""
        by_file: dict[str, list[tuple[int, str]]] = {}
        for cause in self.causes:
            found = _WHERE.match(cause)
            file, line = (found[1], int(found[2] or 0)) if found else ("", 0)
            by_file.setdefault(file, []).append((line, cause))
        for file in sorted(by_file):
            told = sorted(by_file[file], key=itemgetter(0))
            yield from (cause for _, cause in told[:MOST_SHOWN])
            if len(told) > MOST_SHOWN:
                where = f"{file}: " if file else ""
                yield f"{where}{len(told) - MOST_SHOWN} more mistakes, told once these are mended"
        if len(self.causes) > 1:
            files = len(set(by_file) - {""})
            yield f"{len(self.causes)} mistakes in {files} file{'' if files == 1 else 's'}"


@dataclass(frozen=True)
class Document:
    """A YAML file: its value, and the line of every field."""

    name: str
    value: Any
    lines: dict[tuple[str | int, ...], int]

    def line(self, place: Place) -> int | None:
        """The line of a field, or of the nearest mapping around it that is there."""
        for length in range(len(place), -1, -1):
            if tuple(place[:length]) in self.lines:
                return self.lines[tuple(place[:length])]
        return None


class Mistakes:
    """Collects what is wrong, one sentence per mistake."""

    def __init__(self) -> None:
        self.causes: list[str] = []

    def add(self, document: Document, place: Place, what: str) -> None:
        """Note what is wrong with a field of a document."""
        line = document.line(place)
        where = document.name if line is None else f"{document.name}:{line}"
        field = ".".join(str(part) for part in place)
        self.causes.append(f"{where}: {field}: {what}" if field else f"{where}: {what}")


class Reader:
    """Reads the files of a folder and remembers where everything stood.

    Raises:
        ReferenceErrors: there is no such folder.
    """

    def __init__(self, folder: Path, mistakes: Mistakes) -> None:
        if not folder.is_dir():
            raise ReferenceErrors(
                [
                    f"no reference data in {folder}: run `wattbook init`, which asks what there"
                    " is and writes it, or write organization.yml and a file of sites/ there"
                ]
            )
        self.folder = folder
        self.mistakes = mistakes
        self.documents: dict[str, Document] = {}
        self.names: set[str] = set()

    def one(self, name: str, model: type[BaseModel]) -> Any:
        """The checked content of a file, None where it has a mistake."""
        path = self.folder / name
        if not path.is_file():
            self.mistakes.causes.append(f"{name}: not found in {self.folder}: add the file")
            return None
        return self._read(path, name, TypeAdapter(model))

    def optional(self, name: str, model: type[BaseModel]) -> Any:
        """The checked content of a file; where there is none, the model with nothing in it."""
        if (self.folder / name).exists():
            return self.one(name, model)
        self.documents[name] = Document(name, None, {})
        return model()

    def each(self, folder: str, adapter: TypeAdapter[Any]) -> list[Any]:
        """The checked contents of the YAML files of a folder, in order of their names."""
        files = sorted((self.folder / folder).glob("*.yml"))
        return [self._read(path, f"{folder}/{path.name}", adapter) for path in files]

    def refuse_others(self, *others: str) -> None:
        """Name every file that looks like reference data and is none of those that are read."""
        for path in sorted(self.folder.rglob("*")):
            name = path.relative_to(self.folder).as_posix()
            is_data = path.suffix.lower() in (".yml", ".yaml", ".csv", ".json")
            if name.startswith(f"{SCHEMAS}/"):
                continue
            if is_data and path.is_file() and name not in self.names and name not in others:
                self.mistakes.causes.append(
                    f"{name}: found a file that is not read: correct its name (files of sites/,"
                    " contracts/ and decisions/ end in .yml) or remove it"
                )

    def _read(self, path: Path, name: str, adapter: TypeAdapter[Any]) -> Any:
        self.names.add(name)
        try:
            text = path.read_text(encoding="utf-8")
            _check_size(text)
            node = yaml.compose(text, Loader=_Loader)
            value = yaml.load(text, Loader=_Loader)
        except _TooLargeError as error:
            self.mistakes.causes.append(f"{name}:{error}")
            return None
        except UnicodeDecodeError:
            self.mistakes.causes.append(
                f"{name}: found bytes that are not UTF-8, expected text: save the file as UTF-8"
            )
            return None
        except yaml.YAMLError as error:
            self.mistakes.causes.append(f"{name}{_not_yaml(error)}")
            return None
        document = Document(name, value, dict(_lines(node, ())))
        self.documents[name] = document
        for repeated in _repeated_fields(node, ()):
            self.mistakes.add(
                document, repeated, "found twice, expected once: remove one of the two"
            )
        try:
            return adapter.validate_python(value)
        except ValidationError as error:
            schema = schema_of(adapter)
            for problem in error.errors(include_url=False):
                place = place_of(problem, value)
                what = sentence(problem, place, schema, value)
                self.mistakes.add(document, [part for part in place if part != "[key]"], what)
            return None


class _Loader(yaml.CSafeLoader):
    """Takes what looks like a date or number and is none as text, which the models then refuse."""


def _or_text(tag: str) -> None:
    construct = yaml.CSafeLoader.yaml_constructors[tag]

    def construct_or_text(loader: _Loader, node: yaml.ScalarNode) -> Any:
        try:
            return construct(loader, node)
        except (ValueError, KeyError, AttributeError, OverflowError):
            return node.value

    _Loader.add_constructor(tag, construct_or_text)


for _tag in ("timestamp", "int", "float", "bool"):
    _or_text(f"tag:yaml.org,2002:{_tag}")


def _not_yaml(error: yaml.YAMLError) -> str:
    """Line and words of what cannot be parsed."""
    if not isinstance(error, yaml.MarkedYAMLError):
        return f": is not YAML: {' '.join(str(error).split())}: correct it"
    line = "" if error.problem_mark is None else f":{error.problem_mark.line + 1}"
    return (
        f"{line}: is not YAML: {error.problem}: correct indentation, brackets or quotes here or"
        " just before"
    )


class _TooLargeError(ValueError):
    """Line and words of what makes a document too deep or too large to be read."""


def _check_size(text: str) -> None:
    """Refuse what would not fit once it is unfolded, before anything is.

    A few lines of aliases of aliases stand for more values than any memory holds.

    Raises:
        _TooLargeError: It nests too deep, or holds too many values.
    """
    sizes: dict[str | None, int] = {}
    opened: list[tuple[str | None, int]] = []
    size = 0
    for event in yaml.parse(text, Loader=yaml.CSafeLoader):
        line = event.start_mark.line + 1 if event.start_mark else 1
        if isinstance(event, yaml.CollectionStartEvent):
            opened.append((event.anchor, size))
            size += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = opened.pop()
            if anchor is not None:
                sizes[anchor] = size - before
        elif isinstance(event, yaml.ScalarEvent):
            size += 1
            if event.anchor is not None:
                sizes[event.anchor] = 1
        elif isinstance(event, yaml.AliasEvent):
            if event.anchor in {anchor for anchor, _ in opened}:
                raise _TooLargeError(
                    f"{line}: found *{event.anchor} within &{event.anchor}, expected no value that"
                    " holds itself: write it out"
                )
            size += sizes.get(event.anchor, 1)
        if len(opened) > DEEPEST:
            raise _TooLargeError(
                f"{line}: found values nested deeper than {DEEPEST} levels, expected a few: correct"
                " the brackets or the indentation"
            )
        if size > MOST_VALUES:
            raise _TooLargeError(
                f"{line}: found more than {MOST_VALUES} values with every alias written out,"
                " expected fewer: remove aliases of aliases"
            )


def _lines(
    node: yaml.Node | None, place: tuple[str | int, ...]
) -> Iterator[tuple[tuple[str | int, ...], int]]:
    if node is None:
        return
    yield place, node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode):
        for key, child in node.value:
            for inner, line in _lines(child, (*place, key.value)):
                yield inner, key.start_mark.line + 1 if inner == (*place, key.value) else line
    elif isinstance(node, yaml.SequenceNode):
        for index, child in enumerate(node.value):
            yield from _lines(child, (*place, index))


def _repeated_fields(
    node: yaml.Node | None, place: tuple[str | int, ...]
) -> Iterator[tuple[str | int, ...]]:
    """Fields given twice in one mapping, of which YAML would silently take the last."""
    if isinstance(node, yaml.MappingNode):
        yield from ((*place, name) for name in repeated(key.value for key, _ in node.value))
        for key, child in node.value:
            yield from _repeated_fields(child, (*place, key.value))
    elif isinstance(node, yaml.SequenceNode):
        for index, child in enumerate(node.value):
            yield from _repeated_fields(child, (*place, index))


def repeated(names: Iterable[Any]) -> list[Any]:
    """The names that stand more than once, each once."""
    return [name for name, count in Counter(names).items() if count > 1]
