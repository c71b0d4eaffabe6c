"""Asks, one question after the other, what a file of answers would say.

What belongs here: walking the models of `answers.py`, reading what a person types, and asking again
where it is of the wrong kind. What does not: what is asked and what answers may be (`answers.py`).
"""

import inspect
import re
from collections import ChainMap
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, partial
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

import typer
from pydantic import TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from pipelines.onboarding.answers import Answers, OrganizationAnswers
from pipelines.reference.expectations import schema_of
from pipelines.reference.messages import place_of, sentence

Given = ChainMap[str, Any]
"""What was answered so far: of this part, of the one around it, and so on."""


def _has(name: str) -> Callable[[Given], bool]:
    return lambda given: bool(given.get(name))


def _other_currencies(given: Given) -> bool:
    venues = [*given.get("sites", ()), *given.get("clouds", ())]
    return any(
        venue.get("currency_code") not in (None, given["reporting_currency"]) for venue in venues
    )


ASKED: Mapping[str, Callable[[Given], bool]] = {
    "readings": _has("meters"),
    "nodes": _has("gpu_models"),
    "telemetry": _has("nodes"),
    "prometheus_url": lambda given: given.get("telemetry") == "prometheus",
    "ppas": _has("prices"),
    "exchange_rates": _other_currencies,
}
"""When a question that does not always make sense is asked, beside what its own part says."""

CHOICES: Mapping[str, Callable[[Given], list[str]]] = {
    "gpu_model": lambda given: [one["gpu_model"] for one in given.get("gpu_models", ())],
    "battery_id": lambda given: [one["battery_id"] for one in given.get("batteries", ())],
}
"""Names that were given before, one of which is meant."""


@dataclass(frozen=True)
class _Question:
    """A field as a question: what it takes, and whether it may be passed over."""

    name: str
    field: FieldInfo
    text: str
    kind: Any
    is_list: bool
    is_needed: bool

    @property
    def part(self) -> type[Answers] | None:
        """The model of its answer, where that is more than one value."""
        is_part = isinstance(self.kind, type) and issubclass(self.kind, Answers)
        return self.kind if is_part else None


def ask(say: Callable[[str], None]) -> dict[str, Any]:
    """Everything that is asked, as a file of answers would hold it.

    What one part cannot be by itself is asked again; what parts cannot be together is not looked
    at.

    Args:
        say: Shows a line, such as what is wrong with an answer.
    """
    return _ask(OrganizationAnswers, ChainMap(), say)


def _ask(model: type[Answers], around: Given, say: Callable[[str], None]) -> dict[str, Any]:
    """The answers of a part, asked until they fit each other."""
    while True:
        say(f"\n{inspect.getdoc(model)}")
        given = around.new_child()
        for question in _questions(model):
            if _is_asked(model, question, given):
                answer = _answer(question, model, given, say)
                if answer in (None, [], {}):
                    given.maps[0].pop(question.name, None)
                else:
                    given[question.name] = answer
        here = dict(given.maps[0])
        try:
            # What was typed became the right kind one by one.
            model.model_validate(here)
        except ValidationError as error:
            if model is OrganizationAnswers:
                return here
            for cause in causes(model, error, here):
                say(cause)
            say("Once more, then.")
        else:
            return here


def _is_asked(model: type[Answers], question: _Question, given: Given) -> bool:
    other, values = {**model.needs, **model.allows}.get(question.name, (None, ()))
    if other is not None and given.get(other, model.model_fields[other].default) not in values:
        return False
    return question.name not in ASKED or ASKED[question.name](given)


def _answer(
    question: _Question, model: type[Answers], given: Given, say: Callable[[str], None]
) -> Any:
    part = question.part
    if part is None:
        return _typed(model, question, given)
    if not question.is_list:
        return _ask(part, given, say) if _wants(question, "is there one?") else None
    entries: list[dict[str, Any]] = []
    given[question.name] = entries
    while _wants(question, "another?" if entries else "is there one?"):
        entries.append(_ask(part, given, say))
    return entries


def _wants(question: _Question, what: str) -> bool:
    return typer.confirm(f"{question.text}: {what}", default=False)


def _typed(model: type[Answers], question: _Question, given: Given) -> Any:
    """One value, asked until it is of its kind; None where it is passed over."""
    text = question.text
    choices = CHOICES[question.name](given) if question.name in CHOICES else _literals(question)
    if choices:
        text += f" ({', '.join(choices)})"
    if len(choices) == 1 and question.name in CHOICES:
        shown: Any = choices[0]
    elif question.is_needed or question.name in model.needs:
        shown = None
    else:
        shown = question.field.get_default(call_default_factory=True) or ""
        if shown == "" and question.field.default != 0:
            text += " (Enter: none)"
        elif shown == "":
            shown = 0
    return typer.prompt(
        text,
        default=shown,
        show_default=shown not in (None, ""),
        value_proc=partial(_parsed, model, question, choices),
    )


def _parsed(model: type[Answers], question: _Question, choices: list[str], typed: Any) -> Any:
    """What was typed as a value of the field.

    Raises:
        typer.BadParameter: It is none; the prompt says so and asks again.
    """
    text = str(typed).strip()
    if not text:
        return None
    if choices and text not in choices:
        raise typer.BadParameter(f"found {text!r}, expected one of {', '.join(choices)}")
    value: Any = _number(text) if question.kind in (int, float) else text
    if question.is_list:
        value = re.split(r"\s*,\s*(?![^\[\]]*\])", text)
    elif get_origin(question.kind) is dict:
        pairs = [one.partition("=") for one in re.split(r"\s*,\s*", text)]
        value = {name.strip(): amount.strip() for name, _, amount in pairs}
    adapter = _adapter(model, question.name)
    try:
        return adapter.validate_python(value)
    except ValidationError as error:
        whole = TypeAdapter(model)
        told = _sentences(whole, error, {question.name: value}, question.name)
        raise typer.BadParameter("; ".join(told)) from None


def causes(model: type[Answers], error: ValidationError, value: Any) -> Iterator[str]:
    """What answers cannot be together, in sentences."""
    yield from _sentences(TypeAdapter(model), error, value)


def _sentences(
    adapter: TypeAdapter[Any], error: ValidationError, value: Any, *around: str
) -> Iterator[str]:
    schema = schema_of(adapter)
    for problem in error.errors(include_url=False):
        problem["loc"] = (*around, *problem["loc"])
        yield sentence(problem, place_of(problem, value), schema, value)


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


@cache
def _adapter(model: type[Answers], name: str) -> TypeAdapter[Any]:
    """What checks one field, which takes text for numbers and dates as a person types them."""
    return TypeAdapter(model.model_fields[name].rebuild_annotation())


def _literals(question: _Question) -> list[str]:
    kind = question.kind
    return [str(one) for one in get_args(kind)] if get_origin(kind) is Literal else []


def _questions(model: type[Answers]) -> Iterator[_Question]:
    for name, field in model.model_fields.items():
        kind = field.annotation
        if get_origin(kind) in (Union, UnionType):
            [kind] = [one for one in get_args(kind) if one is not type(None)]
        if hasattr(kind, "__metadata__"):
            kind = get_args(kind)[0]
        is_list = get_origin(kind) is list
        if is_list:
            [kind] = get_args(kind)
        yield _Question(
            name=name,
            field=field,
            text=" ".join((field.description or name).split()),
            kind=kind,
            is_list=is_list,
            is_needed=field.is_required(),
        )
