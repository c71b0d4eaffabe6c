"""Jobs of the simulated machines: what is submitted, when it runs and on which nodes.

What belongs here: the demand, a first-come queue with backfill over named nodes, preemption, and
how hard each job drives its GPUs. What does not: watts (`site_model.py`) and accounting files.

Every job holds whole slots (a node, or half a node of an inference pool) for whole 5-minute steps.
In its first step it loads and in its last it checkpoints and stops; both leave the GPUs idle, so
that a GPU draws the same power through any step while jobs start and end at any second.
"""

import heapq
from dataclasses import dataclass, field
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl

from pipelines.simulator import clock, events
from pipelines.simulator.clock import Floats, Ints

_BACKFILL_DEPTH = 50
_PATIENCE_STEPS = 10 * 12
"""After ten hours at the head of the queue a job is no longer overtaken."""


@dataclass(frozen=True)
class JobKind:
    """A kind of job: how it appears in the accounting and how it loads its GPUs."""

    workload_id: str
    partition: str
    qos: str
    accounts: tuple[str, ...]
    names: tuple[str, ...]
    load: tuple[float, float]
    """Least and greatest mean load of its GPUs while it computes."""
    follows_demand: bool = False
    """Load follows the users' time of day instead of the job's own phases."""


@dataclass(frozen=True)
class Demand:
    """Jobs wanting to run: one entry per job, sorted by submission."""

    kind: Ints
    submit_step: Ints
    slots: Ints
    steps: Ints


@dataclass(frozen=True)
class Shed:
    """An order to stop jobs of some kinds until few enough slots are used, and to start no more."""

    started_step: int
    ended_step: int
    used_slots: int
    kinds: frozenset[int]
    comment: str


@dataclass(frozen=True)
class Pool:
    """Slots that share a queue."""

    name: str
    first_gpu: Ints
    """First GPU of each slot, in the site's order."""
    gpus_per_slot: int
    kinds: tuple[JobKind, ...]
    demand: Demand
    spare_ratio: float
    """Share of slots never used at once: nodes in repair."""
    sheds: tuple[Shed, ...] = ()
    drained: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Slot to the half-open steps in which it takes no new job."""


@dataclass(frozen=True)
class Schedule:
    """What ran in a pool: one entry per job run, in order of start.

    A job runs in the half-open steps from `start_step` to `end_step`.
    """

    pool: Pool
    kind: Ints
    submit_step: Ints
    start_step: Ints
    end_step: Ints
    slots: list[Ints]
    state: list[str]
    comment: list[str | None]
    start_s: Ints
    """Seconds into its first step at which a job starts."""
    end_s: Ints
    """Seconds into its last step at which it ends."""
    level: Floats
    wave_steps: Floats
    wave_phase: Floats
    checkpoint_steps: Ints

    def __len__(self) -> int:
        return len(self.kind)

    @property
    def gpu_count(self) -> Ints:
        """GPUs of each job."""
        return np.array([len(slots) for slots in self.slots]) * self.pool.gpus_per_slot

    def load_ratio(self, job: Ints, step: Ints, demand_ratio: Floats) -> Floats:
        """How hard each job drives its GPUs in a step: 0 idle, 1 its model's peak power."""
        age = step - self.start_step[job]
        computes = (age > 0) & (step < self.end_step[job] - 1)
        wave = 1 + 0.035 * np.sin(2 * np.pi * step / self.wave_steps[job] + self.wave_phase[job])
        saves = age % self.checkpoint_steps[job] == self.checkpoint_steps[job] - 1
        own = wave * np.where(saves, 0.45, 1.0)
        follows = np.array([kind.follows_demand for kind in self.pool.kinds])[self.kind[job]]
        shape = np.where(follows, demand_ratio[step], own)
        return np.where(computes, self.level[job] * shape, 0.0)


def steady_demand(
    name: str,
    *,
    slot_count: int,
    used_ratio: float,
    time_zone: str,
    kinds: dict[int, tuple[float, tuple[int, ...], tuple[float, float]]],
) -> Demand:
    """Demand that would fill a share of the slots on average, most of it handed in by day.

    Args:
        name: of the pool, which names its random numbers.
        slot_count: slots of the pool.
        used_ratio: share of them the demand would fill.
        time_zone: of the people who submit.
        kinds: kind to its share of the work, its possible sizes in slots, and the least and
            greatest hours a job takes.
    """
    rng = clock.stream(f"{name}/demand")
    steps = np.arange(clock.STEP_COUNT)
    hour, weekday = _local(steps, time_zone)
    by_day = 1 + 0.45 * np.exp(-0.5 * ((hour - 14) / 3.5) ** 2) * np.where(weekday <= 5, 1, 0.25)
    slow = 1 + 0.045 * clock.drift(f"{name}/season", clock.STEP_COUNT, 24 * 6, 12)
    offered = np.cumsum(by_day / by_day.mean() * slow * used_ratio * slot_count)
    parts = []
    for kind, (share, sizes, hours) in kinds.items():
        mean_work = float(np.mean(sizes)) * np.mean(hours) * 12 * 0.8
        count = int(offered[-1] * share / mean_work * 1.5) + 50
        drawn = rng.choice(np.array(sizes), count)
        low, high = (bound * 12 for bound in hours)
        length = np.exp(rng.uniform(np.log(low), np.log(high), count)).astype(np.int64)
        work = drawn * length
        due = np.searchsorted(offered * share, np.cumsum(work) - work * rng.random(count))
        kept = due < clock.STEP_COUNT
        parts.append((np.full(kept.sum(), kind), due[kept], drawn[kept], length[kept]))
    kinds_due, due, size, length = (np.concatenate(part) for part in zip(*parts, strict=True))
    order = np.argsort(due, kind="stable")
    return Demand(kinds_due[order], due[order], size[order], length[order])


def service_demand(
    name: str,
    *,
    time_zone: str,
    always: int,
    extra: int,
    sizes: tuple[int, ...],
    days: tuple[float, float],
) -> Demand:
    """Services that run day and night and are redeployed every few days, and more of them by day.

    All are of kind 0. A service's next deployment is submitted when the one before it ends.
    """
    rng = clock.stream(f"{name}/demand")
    rows: list[tuple[int, int, int]] = []
    for _ in range(always):
        size = int(rng.choice(sizes))
        step = -int(rng.integers(0, int(days[1] * 288)))
        while step < clock.STEP_COUNT:
            length = int(rng.uniform(*days) * 288)
            first = max(step, 0)
            if step + length - first > 6:
                rows.append((first, size, step + length - first))
            step += length
    for step in range(0, clock.STEP_COUNT, 288):
        morning = clock.step_at(step).astimezone(ZoneInfo(time_zone))
        offset = (24 - morning.hour) * 12
        for _ in range(extra):
            start = step + offset + int(rng.uniform(6.5, 10) * 12)
            rows.append((start, int(rng.choice(sizes)), int(rng.uniform(9, 14) * 12)))
    table = np.array(sorted(row for row in rows if row[0] < clock.STEP_COUNT))
    return Demand(np.zeros(len(table), np.int64), table[:, 0], table[:, 1], table[:, 2])


def forecast_demand(*, slots: int, hours: float) -> Demand:
    """An operational forecast every six hours on all its nodes, of kind 0."""
    rng = clock.stream("forecast/demand")
    start = np.arange(0, clock.STEP_COUNT, 72) + 6
    length = (hours * 12 + rng.integers(-3, 6, len(start))).astype(np.int64)
    return Demand(np.zeros(len(start), np.int64), start, np.full(len(start), slots), length)


def users_demand(name: str, time_zone: str) -> Floats:
    """How busy the users keep the services, per step: a daily shape around 0.65, weekends lower."""
    steps = np.arange(clock.STEP_COUNT)
    hour, weekday = _local(steps, time_zone)
    day = np.exp(-0.5 * (((hour - 14.5 + 12) % 24 - 12) / 4.2) ** 2)
    busy = 0.42 + 0.48 * day * np.where(weekday <= 5, 1.0, 0.82)
    return np.clip(busy + 0.025 * clock.drift(f"{name}/users", len(steps), 2, 12), 0.2, 0.97)


def _local(steps: Ints, time_zone: str) -> tuple[Floats, Ints]:
    starts = pl.Series(steps).cast(pl.Duration("us")) * (clock.STEP_S * 1_000_000)
    instants = pl.select(pl.lit(clock.JOBS_STARTED_AT) + starts).to_series()
    hour, weekday, _, _ = clock.local_parts(instants, time_zone)
    return hour, weekday


def run(pool: Pool) -> Schedule:
    """Run a pool's demand through its queue.

    The head of the queue starts as soon as enough slots are free; jobs behind it that fit now may
    overtake it until it has waited ten hours. What is preempted is submitted again with the work it
    had left.
    """
    return _Queue(pool).run()


class _Queue:
    """The state of a pool's queue while it is run."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.rng = clock.stream(f"{pool.name}/queue")
        self.free = np.ones(len(pool.first_gpu), dtype=bool)
        self.limit = int(len(pool.first_gpu) * (1 - pool.spare_ratio))
        self.used = 0
        self.waiting: list[tuple[int, int, int, int]] = []
        """(kind, submit step, slots, steps) in order of arrival."""
        self.running: dict[int, int] = {}
        """Run to the step it ends before."""
        self.ends: list[tuple[int, int]] = []
        self.kind: list[int] = []
        self.submit: list[int] = []
        self.start: list[int] = []
        self.end: list[int] = []
        self.slots: list[Ints] = []
        self.state: list[str] = []
        self.comment: list[str | None] = []

    def run(self) -> Schedule:
        demand = self.pool.demand
        arrivals = list(
            zip(
                demand.kind.tolist(),
                demand.submit_step.tolist(),
                demand.slots.tolist(),
                demand.steps.tolist(),
                strict=True,
            )
        )
        orders = sorted(
            {shed.started_step for shed in self.pool.sheds}
            | {shed.ended_step for shed in self.pool.sheds}
            | {step for span in self.pool.drained.values() for step in span}
        )
        arrived = 0
        while True:
            upcoming = [clock.STEP_COUNT]
            if arrived < len(arrivals):
                upcoming.append(arrivals[arrived][1])
            if self.ends:
                upcoming.append(self.ends[0][0])
            if orders:
                upcoming.append(orders[0])
            now = min(upcoming)
            if now >= clock.STEP_COUNT:
                return self._schedule()
            while orders and orders[0] == now:
                orders.pop(0)
            self._release(now)
            while arrived < len(arrivals) and arrivals[arrived][1] == now:
                self.waiting.append(arrivals[arrived])
                arrived += 1
            for shed in self.pool.sheds:
                if shed.started_step == now:
                    self._preempt(shed, now)
            self._start_waiting(now)

    def _release(self, now: int) -> None:
        while self.ends and self.ends[0][0] <= now:
            end, run = heapq.heappop(self.ends)
            if self.running.get(run) == end:
                del self.running[run]
                self.free[self.slots[run]] = True
                self.used -= len(self.slots[run])

    def _preempt(self, shed: Shed, now: int) -> None:
        """Stop the youngest jobs first: least work is lost."""
        left = self.used
        for run in sorted(self.running, reverse=True):
            if left <= shed.used_slots:
                break
            if self.kind[run] not in shed.kinds or self.running[run] <= now + 1:
                continue
            left -= len(self.slots[run])
            remaining = self.running[run] - now
            self.waiting.insert(0, (self.kind[run], now, len(self.slots[run]), remaining + 6))
            self._cut(run, now + 1, "PREEMPTED", shed.comment)

    def _cut(self, run: int, end: int, state: str, comment: str | None) -> None:
        self.running[run] = self.end[run] = end
        self.state[run], self.comment[run] = state, comment
        heapq.heappush(self.ends, (end, run))

    def _start_waiting(self, now: int) -> None:
        limit = self.limit
        for shed in self.pool.sheds:
            if shed.started_step <= now < shed.ended_step:
                limit = min(limit, shed.used_slots)
        kept = []
        overtaking = True
        for position, job in enumerate(self.waiting):
            if position >= _BACKFILL_DEPTH:
                kept.extend(self.waiting[position:])
                break
            _, submit, slots, _ = job
            fits = overtaking and self.used + slots <= limit
            if fits and self._start(job, now):
                continue
            kept.append(job)
            if now - submit > _PATIENCE_STEPS:
                overtaking = False
        self.waiting = kept

    def _start(self, job: tuple[int, int, int, int], now: int) -> bool:
        kind, submit, slots, steps = job
        allowed = self.free
        drained = [slot for slot, (a, b) in self.pool.drained.items() if a <= now < b]
        if drained:
            allowed = self.free.copy()
            allowed[drained] = False
        chosen = np.flatnonzero(allowed)[:slots]
        if len(chosen) < slots:
            return False
        run = len(self.kind)
        self.free[chosen] = False
        self.used += slots
        self.kind.append(kind)
        self.submit.append(submit)
        self.start.append(now)
        self.end.append(now + steps)
        self.slots.append(chosen)
        self.state.append("COMPLETED")
        self.comment.append(None)
        self.running[run] = now + steps
        heapq.heappush(self.ends, (now + steps, run))
        self._fate(run, now, steps)
        return True

    def _fate(self, run: int, now: int, steps: int) -> None:
        """Most jobs complete; some fail, are cancelled or make room for others early."""
        draw = self.rng.random()
        early = now + max(4, int(steps * self.rng.uniform(0.1, 0.9)))
        if self.pool.kinds[self.kind[run]].follows_demand:
            self.state[run] = "CANCELLED"
        elif draw < 0.02:
            self._cut(run, early, "FAILED", None)
        elif draw < 0.03:
            self._cut(run, early, "CANCELLED", None)
        elif draw < 0.036:
            self._cut(run, early, "PREEMPTED", None)
        elif draw < 0.038:
            self._cut(run, early, "NODE_FAIL", None)
        elif draw < 0.06:
            self.state[run] = "TIMEOUT"

    def _schedule(self) -> Schedule:
        count = len(self.kind)
        rng = clock.stream(f"{self.pool.name}/jobs")
        kind = np.array(self.kind, dtype=np.int64)
        bounds = np.array([kind.load for kind in self.pool.kinds])[kind]
        draw = rng.random((6, count))
        shed = np.array([(comment or "").startswith("energy:") for comment in self.comment])
        return Schedule(
            pool=self.pool,
            kind=kind,
            submit_step=np.array(self.submit, dtype=np.int64),
            start_step=np.array(self.start, dtype=np.int64),
            end_step=np.array(self.end, dtype=np.int64),
            slots=self.slots,
            state=self.state,
            comment=self.comment,
            start_s=(6 + 180 * draw[0]).astype(np.int64),
            # What is shed for energy stops within a minute of the order.
            end_s=np.where(shed, 5 + 45 * draw[1], 10 + 280 * draw[1]).astype(np.int64),
            level=bounds[:, 0] + (bounds[:, 1] - bounds[:, 0]) * draw[2],
            wave_steps=30 + 400 * draw[3],
            wave_phase=2 * np.pi * draw[4],
            checkpoint_steps=(36 + 60 * draw[5]).astype(np.int64),
        )


def shed_step(span: events.Span) -> tuple[int, int]:
    """First and last step of a placed span."""
    return clock.step_index(span.started_at), clock.step_index(span.ended_at)
