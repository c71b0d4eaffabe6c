"""What a field of a reference file expects: as JSON Schema, in words and by example.

What belongs here: the schema of a model, the part of it that speaks of one place in a file, and how
that is said to people. What does not: which file has which model (`schemas.py`), and what was found
instead (`messages.py`).
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import yaml
from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode, JsonSchemaValue
from pydantic_core import CoreSchema

Schema = dict[str, Any]

_TYPES = {
    "boolean": "true or false",
    "integer": "a whole number",
    "number": "a number",
    "string": "text",
    "array": "a list",
    "object": "fields with values",
}


class _Generator(GenerateJsonSchema):
    """Without titles, which would be the names of our classes, and with `if` for each kind.

    Editors check a file against the kind it says it is, where `oneOf` would have them guess.
    """

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def generate(self, schema: CoreSchema, mode: JsonSchemaMode = "validation") -> JsonSchemaValue:
        made = super().generate(schema, mode)
        return {"$schema": self.schema_dialect, **_for_editors(made)}


def _for_editors(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_for_editors(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    plain = {key: _for_editors(part) for key, part in schema.items()}
    if isinstance(plain.get("title"), str):
        del plain["title"]
    if isinstance(plain.get("description"), str):
        plain["description"] = " ".join(plain["description"].split())
    # An editor would write it out where the field is better left out.
    if plain.get("default", 0) is None or isinstance(plain.get("default"), dict):
        del plain["default"]
    if "discriminator" in plain:
        field, references = (
            plain["discriminator"]["propertyName"],
            plain["discriminator"]["mapping"],
        )
        del plain["discriminator"], plain["oneOf"]
        plain["type"] = "object"
        plain["required"] = [field]
        plain["properties"] = {field: {"enum": list(references)}}
        plain["allOf"] = [
            {
                "if": {"properties": {field: {"const": kind}}, "required": [field]},
                "then": {"$ref": reference},
            }
            for kind, reference in references.items()
        ]
    return plain


@lru_cache
def schema_of(adapter: TypeAdapter[Any]) -> Schema:
    """The JSON Schema of what a file may hold."""
    return adapter.json_schema(schema_generator=_Generator)


def part_of(schema: Schema, place: Sequence[str | int], value: Any) -> Schema:
    """What a schema says of a place in a document; empty where it says nothing.

    The last part `[key]` means the names of a mapping rather than what they stand for.
    """
    here = _resolved(schema, schema, value)
    for part in place:
        if part == "[key]":
            return here.get("propertyNames", {"type": "string"})
        if isinstance(part, int) and "items" in here | {"items": None}:
            parts = here.get("prefixItems", [])
            here = parts[part] if part < len(parts) else here.get("items") or {}
        elif part in here.get("properties", {}):
            here = here["properties"][part]
        else:
            others = here.get("additionalProperties")
            here = others if isinstance(others, dict) else {}
        value = _within(value, part)
        here = _resolved(here, schema, value)
    return here


def fields_of(schema: Schema) -> list[str]:
    """The names of the fields that a mapping may have."""
    return list(schema.get("properties", {}))


def in_words(schema: Schema) -> str:
    """What a field expects, as `a number from 0 to 1`."""
    if "enum" in schema or "const" in schema:
        return either([str(value) for value in schema.get("enum", [schema.get("const")])])
    if "patternErrorMessage" in schema:
        return str(schema["patternErrorMessage"]).removeprefix("expected ")
    if schema.get("format") == "date":
        return "a date as 2026-04-01"
    kind = schema.get("type", "")
    words = _TYPES.get(kind, "a value")
    if kind in ("integer", "number"):
        words += _bounds(schema)
    elif kind == "array" and "prefixItems" in schema:
        words += f" of {len(schema['prefixItems'])} whole numbers, as {_flow(example_of(schema))}"
    elif kind == "array" and schema.get("maxItems"):
        words += f" of {schema['maxItems']} entries"
    elif kind == "array" and schema.get("minItems"):
        words += " of at least one entry"
    elif kind == "string" and "examples" in schema:
        words += f" such as {schema['examples'][0]}"
    return words


def example_of(schema: Schema, root: Schema | None = None, name: str = "name") -> Any:
    """A value that a field could have; of a mapping the two fields one would begin with."""
    root = schema if root is None else root
    schema = _resolved(schema, root, None)
    for key in ("examples", "enum"):
        if key in schema:
            return schema[key][0]
    if "const" in schema:
        return schema["const"]
    if schema.get("format") == "date":
        return "2026-04-01"
    match schema.get("type"):
        case "object" if "properties" in schema:
            known = schema["properties"]
            first = [field for field in known if field in schema.get("required", ())] or list(known)
            return {field: example_of(known[field], root, field) for field in first[:2]}
        case "object":
            inner = schema.get("additionalProperties")
            names = schema.get("propertyNames", {}).get("enum", ["name"])
            return {names[0]: example_of(inner, root) if isinstance(inner, dict) else 1}
        case "array" if "prefixItems" in schema:
            return [part.get("minimum", 0) for part in schema["prefixItems"][:1]] + [
                part.get("maximum", 1) for part in schema["prefixItems"][1:]
            ]
        case "array":
            return [example_of(schema.get("items", {}), root, name.removesuffix("s"))]
        case "boolean":
            return True
        case "integer" | "number":
            return _number(schema)
        case _:
            return name.replace("_", "-").removesuffix("-id")


def in_yaml(value: Any) -> list[str]:
    """An example as lines of a file."""
    text: str = yaml.safe_dump(value, sort_keys=False, default_flow_style=False, width=1000)
    return text.replace("'2026-04-01'", "2026-04-01").splitlines()


def either(names: Sequence[str]) -> str:
    """`a, b or c`."""
    return " or ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def _flow(value: Any) -> str:
    return str(yaml.safe_dump(value, default_flow_style=True)).strip()


def _bounds(schema: Schema) -> str:
    least, above = schema.get("minimum"), schema.get("exclusiveMinimum")
    most, below = schema.get("maximum"), schema.get("exclusiveMaximum")
    low = f"from {_plain(least)}" if least is not None else ""
    low = f"above {_plain(above)}" if above is not None else low
    high = f"at most {_plain(most)}" if most is not None else ""
    high = f"below {_plain(below)}" if below is not None else high
    if least is not None and most is not None:
        return f" {low} to {_plain(most)}"
    if least is not None and not high:
        return f" of at least {_plain(least)}"
    return "".join(f"{comma}{part}" for comma, part in ((" ", low), (", ", high)) if part)


def _plain(number: float) -> str:
    return f"{number:.12g}"


def _number(schema: Schema) -> float:
    least, above = schema.get("minimum"), schema.get("exclusiveMinimum")
    if above is not None and "maximum" in schema:
        return float(schema["maximum"])
    number = above + 1 if above is not None else least if least is not None else 1
    return int(number) if number == int(number) else float(number)


def _within(value: Any, part: str | int) -> Any:
    if isinstance(value, dict):
        return value.get(part)
    if isinstance(value, list) and isinstance(part, int) and part < len(value):
        return value[part]
    return None


def _resolved(schema: Schema, root: Schema, value: Any) -> Schema:
    """Without references and the possibility of nothing, and as the kind that the value names."""
    while True:
        if "$ref" in schema:
            name = schema["$ref"].rpartition("/")[2]
            schema = root["$defs"][name]
        elif "anyOf" in schema:
            schema = next(part for part in schema["anyOf"] if part.get("type") != "null")
        elif "allOf" in schema:
            kinds = {
                part["if"]["properties"]["kind"]["const"]: part["then"] for part in schema["allOf"]
            }
            kind = value.get("kind") if isinstance(value, dict) else None
            if value is None:
                kind = next(iter(kinds))
            if not isinstance(kind, str) or kind not in kinds:
                return schema
            schema = kinds[kind]
        else:
            return schema
