"""What is wrong with a field of a reference file, in a sentence for people.

What belongs here: mistakes as Pydantic tells them, said as found, expected and how to mend. What
does not: rules of our own, whose sentences stand where the rules are.
"""

from collections.abc import Mapping, Sequence
from datetime import date
from difflib import get_close_matches
from typing import Any, get_args

from pydantic_core import ErrorDetails
from pydantic_core.core_schema import ErrorType

from pipelines.reference.expectations import (
    Schema,
    example_of,
    fields_of,
    in_words,
    in_yaml,
    part_of,
)

_OF_PYDANTIC = frozenset(get_args(ErrorType))
_KIND_UNKNOWN = ("union_tag_invalid", "union_tag_not_found")
_LONGEST = 60
INDENTATION = "    "
_AS_WRITTEN: dict[str | int, str] = {"None": "null", "True": "true", "False": "false"}
"""Names that YAML takes for no text, of which Pydantic tells Python's text."""


def place_of(problem: ErrorDetails, value: Any) -> list[str | int]:
    """Where a problem is, by names and indexes that stand in the file.

    Pydantic's location has the kind of a contract in it, too, and of an unknown kind not the field.
    """
    place: list[str | int] = []
    for part in problem["loc"]:
        if isinstance(value, dict) and part not in value and part == value.get("kind"):
            continue
        if isinstance(value, dict) and part not in value:
            part = _AS_WRITTEN.get(part, part)
        place.append(part)
        if isinstance(value, dict):
            value = value.get(part)
        elif isinstance(value, list) and isinstance(part, int) and part < len(value):
            value = value[part]
        else:
            value = None
    if _names_no_text(problem):
        return [part for part in place if part != "[key]"][:-1]
    return [*place, "kind"] if problem["type"] in _KIND_UNKNOWN else place


def sentence(problem: ErrorDetails, place: Sequence[str | int], schema: Schema, value: Any) -> str:
    """Found, expected, and how to mend it; an example may follow on lines of its own.

    Args:
        problem: As Pydantic tells it.
        place: Where it is, as `place_of` says.
        schema: JSON Schema of the whole document.
        value: The whole document.
    """
    kind, found = problem["type"], problem["input"]
    if kind not in _OF_PYDANTIC:
        message = problem["msg"]
        if isinstance(found, Mapping | list) or message.startswith("found "):
            return message
        comma = "," if message.startswith("expected ") else ";"
        return f"found {_shown(found)}{comma} {message}"
    expected = part_of(schema, place, value)
    words = in_words(expected)
    if kind in ("missing", "union_tag_not_found"):
        return f"not found, expected {words}: add the field"
    if kind == "union_tag_invalid":
        found = found.get("kind") if isinstance(found, Mapping) else found
    if kind == "extra_forbidden":
        return _unknown_field(str(place[-1]), fields_of(part_of(schema, place[:-1], value)))
    if _names_no_text(problem):
        return "found a field whose name is no text, expected text: put the name in quotes"
    if kind in ("too_short", "too_long") and isinstance(found, Sequence):
        return f"found {len(found)} entries, expected {words}: {_count(len(found), expected)}"
    if expected.get("type") in ("object", "array") and "enum" not in expected:
        lines = in_yaml(_example(expected, schema, str(place[-1]) if place else ""))
        example = "".join(f"\n{INDENTATION}{line}" for line in lines)
        if expected["type"] == "object" or not isinstance(found, str):
            return f"found {_shown(found)}, expected {words}: write it as in{example}"
        return f"found {_shown(found)}, expected {words}: begin each entry with a dash{example}"
    return f"found {_shown(found)}, expected {words}: {_mend(found, expected)}"


def _names_no_text(problem: ErrorDetails) -> bool:
    """Whether the name of a field is a number, a date or nothing."""
    is_name = problem["loc"][-1:] == ("[key]",)
    return problem["type"] == "invalid_key" or (is_name and problem["type"] == "string_type")


def _unknown_field(name: str, known: Sequence[str]) -> str:
    near = get_close_matches(name, known, n=1)
    if near:
        return f"found an unknown field, expected perhaps {near[0]}: correct its name or remove it"
    return "found an unknown field: remove it or correct its name"


def _example(expected: Schema, schema: Schema, name: str) -> Any:
    example = example_of(expected, schema, name)
    # What stands at the top of a file has no name to show.
    return {name: example} if name and not name.isdigit() else example


def _count(count: int, expected: Schema) -> str:
    return "add what is missing" if count < expected.get("minItems", 0) else "remove the others"


def _mend(found: Any, expected: Schema) -> str:
    kind = expected.get("type")
    if found is None:
        return "give a value or remove the field"
    if isinstance(found, str):
        names = [str(name) for name in expected.get("enum", ())]
        if near := get_close_matches(found, names, n=1):
            return f"perhaps {near[0]}"
        if found in names or (kind in ("number", "integer") and _is_number(found)):
            return "remove the quotes"
        if kind == "boolean" and found.lower() in ("true", "false"):
            return "remove the quotes"
        if expected.get("format") == "date" and _is_date(found):
            return "remove the quotes"
    is_text = kind == "string" and "format" not in expected and "enum" not in expected
    if is_text and not isinstance(found, str | Mapping | list):
        if isinstance(found, bool):
            return "put it in quotes, or YAML reads it as true or false"
        return "put it in quotes"
    return "correct it"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _is_date(text: str) -> bool:
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True


def _shown(found: Any) -> str:
    match found:
        case None:
            return "nothing"
        case bool():
            return str(found).lower()
        case str() | int() | float():
            text = repr(found)
            return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
        case date():
            return found.isoformat()
        case Mapping():
            return "fields with values"
        case list():
            return "a list"
        case bytes():
            return "binary data"
        case _:
            return "a set"
