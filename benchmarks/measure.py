"""Measures ways of doing the same work beside one another, each in a process of its own.

What belongs here: running a way, what it cost, and the lines of the table. What does not: what the
ways do (`parsing.py`, `telemetry.py`, `books.py`).

CPU seconds are of all threads and, of a command, of the processes it starts; memory is the peak of
the largest process. Of a function they are counted from its call on, without what starting Python
and importing cost. Each way runs several times in turn with the others, and the median counts. All
ways of a work say what they came to, and where that differs it is told instead of a ratio.
"""

import importlib.util
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).parents[1]
COMMAND = Path(sys.executable).with_name("wattbook")
SAME = 1e-9

_CALL = """
import importlib, json, re, resource, sys, time
from {module} import {name} as call
arguments = json.loads(sys.argv[1])
for module in getattr(call, "modules", ()):
    importlib.import_module(module)
before, start = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
told = call(*arguments)
after, wall_s = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter() - start
cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
told, more_s = told if isinstance(told, tuple) else (told, 0.0)
# The peak that getrusage tells is at least that of the process that started this one.
peak_kb = int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])
print(json.dumps([told, cpu_s + more_s, wall_s, peak_kb]))
"""


@dataclass(frozen=True)
class Cost:
    """What one run cost, and the figure it came to."""

    cpu_s: float
    wall_s: float
    peak_mb: float
    told: float | None = None


@dataclass(frozen=True)
class Way:
    """A way to do a work: its name, how it is run, and the modules it needs."""

    name: str
    run: Callable[[], Cost]
    modules: tuple[str, ...] = ()

    @classmethod
    def of(cls, name: str, function: Callable[..., Any], *arguments: Any) -> "Way":
        """A function with its arguments, that may say with `needs` what it imports."""
        modules = getattr(function, "modules", ())
        return cls(name, lambda: called(function, *arguments), modules)

    @property
    def is_there(self) -> bool:
        """Whether it can be run here."""
        packages = {module.partition(".")[0] for module in self.modules}
        return all(importlib.util.find_spec(package) for package in packages)


@dataclass(frozen=True)
class Line:
    """A line of the table: a work, a way of doing it, and what it cost."""

    work: str
    way: str
    cost: Cost | None
    ratio: float | None = None
    """CPU seconds of Wattbook over those of this way; of a command over those of its yardstick."""
    note: str = ""


def needs(*modules: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """What a function imports that may not be installed; it is imported before time runs."""

    def mark(function: Callable[..., Any]) -> Callable[..., Any]:
        vars(function)["modules"] = modules
        return function

    return mark


def called(function: Callable[..., Any], *arguments: Any) -> Cost:
    """The cost of a function of a module, called in a new process with what JSON can say.

    It answers with the number that all ways come to, or with that and the CPU seconds of other
    processes that worked for it.
    """
    code = _CALL.format(module=function.__module__, name=function.__name__)
    given = [str(one) if isinstance(one, Path) else one for one in arguments]
    answer = subprocess.run(
        [sys.executable, "-c", code, json.dumps(given)],
        cwd=PROJECT,
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    told, cpu_s, wall_s, peak_kb = json.loads(answer.stdout.splitlines()[-1])
    return Cost(cpu_s, wall_s, peak_kb / 1024, told)


def command(*arguments: str | Path, **environment: str) -> Cost:
    """The cost of a command with all processes it starts.

    Raises:
        SystemExit: it failed; with what it said.
    """
    start = time.perf_counter()
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            [str(one) for one in arguments],
            cwd=PROJECT,
            stdout=said,
            stderr=subprocess.STDOUT,
            env={**os.environ, **environment},
        )
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            said.seek(0)
            raise SystemExit(f"{' '.join(map(str, arguments))}: {said.read().decode()[-3000:]}")
    wall_s = time.perf_counter() - start
    return Cost(used.ru_utime + used.ru_stime, wall_s, used.ru_maxrss / 1024)


def wattbook(data_dir: Path, *arguments: str) -> Cost:
    """The cost of a command of Wattbook on a book."""
    return command(COMMAND, "--data-dir", data_dir, *arguments)


def beside(
    work: str, ways: Sequence[Way], turns: int, note: Callable[[Cost], str] = lambda _: ""
) -> list[Line]:
    """Run the ways in turn, so many times each; the first one is Wattbook's."""
    there = [way for way in ways if way.is_there]
    costs: dict[str, list[Cost]] = {way.name: [] for way in there}
    failed = {}
    for _ in range(turns):
        for way in there:
            try:
                if way.name not in failed:
                    costs[way.name].append(way.run())
            except subprocess.CalledProcessError as error:
                failed[way.name] = f"ended with exit status {error.returncode}"
    medians = {name: median(of_way) for name, of_way in costs.items() if name not in failed}
    ours = medians.get(ways[0].name)
    lines = []
    for way in ways:
        cost = medians.get(way.name)
        if cost is None:
            lines.append(Line(work, way.name, cost, note=failed.get(way.name, "not installed")))
        elif ours is None:
            lines.append(Line(work, way.name, cost))
        elif not _is_same(cost.told, ours.told):
            differs = f"comes to {cost.told}, not {ours.told}"
            lines.append(Line(work, way.name, cost, note=differs))
        else:
            ratio = ours.cpu_s / max(cost.cpu_s, 1e-3)
            lines.append(Line(work, way.name, cost, ratio, note(cost)))
    return lines


def median(costs: Sequence[Cost]) -> Cost:
    """The middle of several runs, each figure by itself."""
    return Cost(
        statistics.median(cost.cpu_s for cost in costs),
        statistics.median(cost.wall_s for cost in costs),
        statistics.median(cost.peak_mb for cost in costs),
        costs[0].told,
    )


def _is_same(one: float | None, other: float | None) -> bool:
    if one is None or other is None:
        return True
    return math.isclose(one, other, rel_tol=SAME)
