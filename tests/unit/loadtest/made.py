"""Runs that nobody made: seconds, samples and a load by arithmetic, for tests of what is done with them."""

from __future__ import annotations

import math
from collections.abc import Callable

from loadtest.neighbour import Note
from loadtest.outcome import Outcome, kill_notes
from loadtest.results import Counters, Histogram, Result, Second, index_of
from loadtest.timeline import Sample
from loadtest.units import MIB
from loadtest.workload import Load, Workload

RATE = 1000


def histogram(middle: int) -> Histogram:
    """1000 durations around `middle` microseconds, with a tail to 20 times that."""
    return Histogram(
        [
            (index_of(middle), 900),
            (index_of(2 * middle), 90),
            (index_of(5 * middle), 9),
            (index_of(20 * middle), 1),
        ]
    )


def second(at: float, hits: int = 900, middle: int = 100, warmup: bool = False, backlog: int = 0) -> Second:
    counters = Counters(
        requests=RATE, gets=RATE, hits=hits, misses=RATE - hits, stored=RATE - hits, fills=RATE - hits,
        bytes_in=RATE * 1000, bytes_out=RATE * 30,
    )  # fmt: skip
    return Second(at, counters, histogram(middle), histogram(max(1, middle // 2)), backlog, warmup)


def result(
    seconds: int = 20,
    *,
    rate: float = 0.0,
    warmup: int = 0,
    problem: str = "",
    started: float = 1000.0,
    address: str = "127.0.0.1:1",
) -> Result:
    made = tuple(
        second(float(at), 900 - int(100 * math.cos(at / 3)), 100 + 10 * at, at <= warmup, 5 if rate else 0)
        for at in range(1, seconds + 1)
    )
    total, latency, service = Counters(), Histogram(), Histogram()
    for each in made[warmup:]:
        total = total.plus(each.counters)
        latency.add(each.latency)
        service.add(each.service)
    load = Load(rate=rate, seconds=float(seconds - warmup), warmup=float(warmup))
    workload = Workload(get_share=1.0, fill=True)
    elapsed = float(seconds - warmup)
    return Result(
        workload,
        load,
        address,
        started,
        made,
        total,
        latency,
        service,
        Histogram(),
        elapsed,
        not problem,
        problem,
    )


def samples(seconds: int = 20, kill_at: float | None = None) -> tuple[Sample, ...]:
    """Four a second, from a second before the load; a hog from the middle on."""
    made = []
    for number in range(-4, 4 * seconds):
        at = number / 4
        dead = kill_at is not None and kill_at <= at < kill_at + 1
        hog = 64 * MIB if at > seconds / 2 else 0
        rss = int(150 * MIB - hog * 0.9)
        made.append(
            Sample(
                at, limit=256 * MIB, usage=(0 if dead else rss) + hog,
                kills=int(kill_at is not None and at >= kill_at),
                stalled=number * 1000, rss=None if dead else rss, hog=hog or None,
                level="low" if hog else "none",
                headroom=40 * MIB, reserve=20 * MIB, ceiling=200 * MIB, items=1000, item_bytes=rss // 2,
                cache=rss - 30 * MIB, evictions=100 * number, shrinks=number // 8,
            )
        )  # fmt: skip
    return tuple(made)


def outcome(
    label: str = "one",
    seconds: int = 20,
    *,
    kill_at: float | None = None,
    rate: float = 0.0,
    problem: str = "",
) -> Outcome:
    seen = samples(seconds, kill_at)
    notes = [Note(seconds / 2, "hog", "hog goes to 64.0 MiB"), *kill_notes(seen)]
    return Outcome(
        label,
        "pressure",
        result(seconds, rate=rate, problem=problem),
        seen,
        tuple(sorted(notes)),
        {"who": "<b>"},
    )


def fake_run(
    given: Result, on_each: Callable[[Second], None] | None = None, error: BaseException | None = None
) -> Callable[..., Result]:
    """A load that is over at once: tells its seconds, returns `given`, or raises."""

    def run(
        address: str,
        workload: Workload,
        load: Load,
        on_second: Callable[[Second], None] | None = None,
        stop: Callable[[], bool] | None = None,
    ) -> Result:
        if error is not None:
            raise error
        for each in given.seconds:
            if on_each is not None:
                on_each(each)
            if on_second is not None:
                on_second(each)
        return given._replace(address=address, workload=workload, load=load)

    return run
