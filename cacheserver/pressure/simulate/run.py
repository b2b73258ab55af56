"""One run: a scenario, a law, and what came of it.

Knows: plant, scenarios, the monitor's face, the models. Must not know: tables, pictures, command lines.
Our law runs as it does in a server: the real Monitor with the real split among shrinkers, on the plant's
clock and sources; what its thread does is done here: it ticks when the last decision said, late by some
jitter, and earlier when a cache has used up its leave or the host reports a stall.
"""

from __future__ import annotations

import contextlib
import logging
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from cacheserver.pressure.monitor import Monitor
from cacheserver.pressure.policy import TICK_MIN
from cacheserver.pressure.simulate.laws import LAWS, Law, Sight
from cacheserver.pressure.simulate.plant import NEVER, Cache, MadeSource, Plant
from cacheserver.pressure.simulate.scenarios import Scenario
from cacheserver.pressure.source import Reading

OURS = "ours"
SETTLED = 5.0  # seconds at the start that do not count as behaviour: a cache finds its size
WAKE = 0.0001  # seconds from a cache's wish to the tick
BACK = 0.97  # of what it may hold: then a cache has grown back


class Sample(NamedTuple):
    """One moment, for drawing. Bytes."""

    at: float
    headroom: float
    limit: float
    demand: float
    own: tuple[int, ...]  # of each process
    reserve: int
    level: int


@dataclass
class Result:
    """What came of a run. Bytes and seconds; shares of 1."""

    scenario: str
    law: str
    limit: int
    below: float = 0.0  # seconds with headroom below zero
    least: float = 0.0  # the smallest headroom
    utilisation: float = 0.0  # held, of what who knows the future would hold and 2 % be free
    jump: float = 0.0  # see Scenario.jump
    reserve: int = 0  # the smallest reserve in force, what the process leant on others for taken off
    shrinks: int = 0  # requests after SETTLED
    turns: int = 0  # times growth turned into shrinking, or back, by more than 1 % of the limit
    ticks: int = 0
    back: float = NEVER  # seconds from the last change of demand until 97 % of what it may hold
    own: tuple[int, ...] = ()  # of each process at the end
    samples: list[Sample] = field(default_factory=list)

    @property
    def survived(self) -> bool:
        """Whether the headroom never went below zero."""
        return self.below == 0.0

    @property
    def feasible(self) -> bool:
        """Whether the largest jump was within the reserve."""
        return self.jump <= self.reserve


class _Driver(Protocol):
    """A law in command of one process's caches."""

    caches: Sequence[Cache]
    reserve: int
    level: int

    def look(self) -> float:
        """Look and act; seconds until the next look."""

    wake: float  # seconds from a cache having used up its leave to a look
    starve: float  # seconds at most between looks while a cache wants more and has none


class _Ours:
    wake, starve = WAKE, TICK_MIN

    def __init__(self, plant: Plant, source: MadeSource, caches: Sequence[Cache]) -> None:
        self.caches = caches
        self.reserve = self.level = 0
        self.monitor = Monitor([source], clock=plant.clock)
        self._plant = plant
        for number, cache in enumerate(caches):
            self.monitor.register_shrinker(
                f"cache {number}",
                cache.shrink,
                count=cache.count,
                grant=cache.grant,
                ledger=cache.ledger,
            )

    def look(self) -> float:
        decision = self.monitor.tick(self._plant.now)
        self.reserve, self.level = decision.reserve - decision.lean, decision.level
        return decision.tick


class _Theirs:
    """A model: it asks its caches in order, each for what is missing."""

    level = 0
    reserve = 0

    def __init__(self, plant: Plant, source: MadeSource, caches: Sequence[Cache], law: Law) -> None:
        self.caches = caches
        self._plant, self._source, self._law = plant, source, law
        self._last: Sequence[Reading] = plant.readings()
        self.wake = self.starve = law.period  # nothing wakes them

    def look(self) -> float:
        with contextlib.suppress(OSError):
            self._last = self._source.read(self._plant.now) or self._last
        tight = min(self._last, key=lambda one: (one.limit - one.usage + one.reclaimable) / one.limit)
        own = sum(cache.own for cache in self.caches)
        returning = sum(cache.returning for cache in self.caches)
        untouched = sum(cache.untouched for cache in self.caches)
        free = tight.limit - tight.usage + tight.reclaimable - untouched
        order = self._law.look(Sight(tight.limit, free, own + untouched, returning))
        left = order.release
        for cache in self.caches:
            if left > 0:
                with contextlib.suppress(RuntimeError):
                    left -= cache.shrink(left, True)
        for cache in self.caches:
            cache.grant(order.room // len(self.caches))
        return self._law.period


def simulate(scenario: Scenario, law: str = OURS, sample: float = 0.0) -> Result:
    """Run `scenario` under `law` (OURS or a name of LAWS). `sample`: seconds between samples; 0: none."""
    kinds = [kind for process in scenario.processes for kind in process]
    plant = Plant(scenario.bounds, kinds)
    source = MadeSource(plant, scenario.outages)
    drivers: list[_Driver] = []
    rest = list(plant.caches)
    for process in scenario.processes:
        caches, rest = rest[: len(process)], rest[len(process) :]
        if law == OURS:
            drivers.append(_Ours(plant, source, caches))
        else:
            drivers.append(_Theirs(plant, source, caches, LAWS[law]()))
    limit = int(scenario.bounds[0].limit.at(0.0))
    result = Result(scenario.name, law, limit, jump=scenario.jump())
    with _silence():
        _drive(scenario, plant, drivers, result, sample)
    result.least, result.below = plant.least, plant.below
    result.utilisation = plant.used / plant.usable if plant.usable else 0.0
    result.own = tuple(sum(cache.own for cache in driver.caches) for driver in drivers)
    return result


def _drive(
    scenario: Scenario, plant: Plant, drivers: Sequence[_Driver], result: Result, sample: float
) -> None:
    rng = random.Random(f"late {scenario.seed}")
    due = [0.001 * number for number in range(len(drivers))]
    stalls = [at for at in scenario.stalls if drivers and isinstance(drivers[0], _Ours)]
    last_change = max(_last_point(scenario), 0.0)
    next_sample, smallest = 0.0, NEVER
    began = sum(cache.shrinks for cache in plant.caches)
    turning = _Turning(0.01 * result.limit)
    while True:
        number = min(range(len(due)), key=due.__getitem__)
        at = min(due[number], scenario.seconds)
        if stalls and stalls[0] <= at:
            at, number = max(stalls.pop(0), plant.now), 0
            for driver in drivers:
                if isinstance(driver, _Ours):
                    driver.monitor.look_again(stalled=True)
        if sample and next_sample < at:
            plant.advance(next_sample)
            result.samples.append(_sample(plant, drivers))
            next_sample += sample
            continue
        plant.advance(at)
        if plant.now >= scenario.seconds:
            break
        driver = drivers[number]
        delay = driver.look()
        result.ticks += 1
        if plant.now < SETTLED:
            began = sum(cache.shrinks for cache in plant.caches)
        if driver.reserve:
            smallest = min(smallest, driver.reserve)
        due[number] = plant.now + _next_look(plant, driver, delay) + rng.random() ** 4 * scenario.late
        turning.see(sum(cache.own for cache in plant.caches))
        if result.back == NEVER and plant.now >= last_change and _is_back(plant, driver):
            result.back = plant.now - last_change
    result.shrinks = sum(cache.shrinks for cache in plant.caches) - began
    result.reserve = int(smallest) if smallest < NEVER else 0
    result.turns = turning.turns


def _next_look(plant: Plant, driver: _Driver, delay: float) -> float:
    """Seconds until this driver looks again, if no cache wakes it earlier."""
    for cache in driver.caches:
        if cache.hungry:
            delay = min(delay, driver.starve)
        else:
            delay = min(delay, max(cache.hungry_at(plant.now) - plant.now, 0.0) + driver.wake)
    return delay


def _is_back(plant: Plant, driver: _Driver) -> bool:
    own = sum(cache.own for cache in plant.caches)
    return own >= BACK * (own + plant.headroom() - driver.reserve)


def _last_point(scenario: Scenario) -> float:
    return max(path.times[-1] for each in scenario.bounds for path in (each.limit, each.demand))


class _Turning:
    """Counts how often a size turned round, swings smaller than `band` bytes aside."""

    def __init__(self, band: float) -> None:
        self._band = band
        self._extreme = -1.0
        self._rising = True
        self.turns = 0

    def see(self, size: float) -> None:
        """The size now."""
        if self._extreme < 0:
            self._extreme = size
        ahead = size - self._extreme if self._rising else self._extreme - size
        if ahead >= 0:
            self._extreme = size
        elif -ahead > self._band:
            self._rising, self._extreme = not self._rising, size
            self.turns += 1


def _sample(plant: Plant, drivers: Sequence[_Driver]) -> Sample:
    now = plant.now
    tight = min(plant.bounds, key=lambda each: each.limit.at(now) - each.demand.at(now))
    return Sample(
        now, plant.headroom(), tight.limit.at(now), tight.demand.at(now),
        tuple(sum(cache.own for cache in driver.caches) for driver in drivers),
        drivers[0].reserve, int(drivers[0].level),
    )  # fmt: skip


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """What the monitor logs is about a host that does not exist."""
    log = logging.getLogger("cacheserver.pressure")
    before, log.disabled = log.disabled, True
    try:
        yield
    finally:
        log.disabled = before
