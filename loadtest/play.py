"""A scenario from its first request to its last: the load, what happens beside it, the timeline, together.

Knows: all three. Must not know: files of results, terminals. The load runs in the calling thread, the
timeline and the plan in threads of theirs; everything has ended when play() returns or raises.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

from loadtest import timeline as memory
from loadtest.neighbour import Neighbour
from loadtest.outcome import Outcome, kill_notes
from loadtest.results import Result, Second
from loadtest.scenario import Scenario, plan
from loadtest.timeline import Sample, Stats, Timeline
from loadtest.units import size_text
from loadtest.whose import Target
from loadtest.workload import Load, Workload

MOST_SAMPLES = 10_000  # of a run; a longer one is looked at less often

INTERRUPTED = "interrupted"  # what the problem of such a run begins with

Watch = Callable[[Second, Sample | None], None]


class RunError(Exception):
    """Why nothing could be measured, in one line."""


class Run(Protocol):
    """What makes the load: loadtest.run.run."""

    def __call__(
        self,
        address: str,
        workload: Workload,
        load: Load,
        on_second: Callable[[Second], None] | None = None,
        stop: Callable[[], bool] | None = None,
    ) -> Result: ...


def play(
    address: str,
    scenario: Scenario,
    run: Run,
    *,
    find: Callable[[], Target] = Target,
    watch: Watch | None = None,
    stop: Callable[[], bool] | None = None,
    label: str = "",
    interval: float = memory.INTERVAL,
) -> Outcome:
    """Run a scenario against the server at `address`; `find` tells who that is on this machine.

    Raises RunError where nothing could be measured or others would be hurt, ValueError and NeighbourError
    where the scenario's events cannot be brought about, NoGroup from `find`.
    """
    target = find()
    limit = target.group.limit() if target.group is not None else None
    seconds = scenario.load.warmup + scenario.load.seconds
    actions = plan(scenario.events, limit, seconds)
    if any(action.kind == "limit" for action in actions) and not target.named:
        _check_alone(target)
    stats = Stats(address, scenario.workload.protocol)
    with Neighbour(actions, target.group, seconds) as neighbour:
        timeline = Timeline(
            find, stats.read, lambda: neighbour.hog_pid, max(interval, seconds / MOST_SAMPLES)
        )

        begun: list[float] = []  # when the load began, by the clock of the samples, as each second tells it

        def on_second(second: Second) -> None:
            begun.append(time.time() - second.at)
            neighbour.begin(second.at)
            if watch is not None:
                watch(second, timeline.latest)

        timeline.start()
        try:
            result = run(address, scenario.workload, scenario.load, on_second, stop)
        finally:
            timeline.stop()
            stats.close()
    if stop is not None and stop():
        result = result._replace(complete=False, problem=_interrupted(result))
    start = min(begun, default=result.started)  # a second may be told late, never early
    samples = tuple(memory.since(timeline.samples, start))
    notes = [note._replace(at=round(note.at - start, 3)) for note in neighbour.notes]
    return Outcome(
        label or address,
        scenario.name,
        result,
        samples,
        tuple(sorted([*notes, *kill_notes(samples)])),
        _facts(target, limit, scenario),
    )


def _check_alone(target: Target) -> None:
    """RunError where the limit that is to move binds processes that have nothing to do with the server."""
    if target.group is not None and (others := target.others()):
        raise RunError(
            f"the limit would move for {others} other processes in the server's cgroup {target.group.path}:"
            " start the server in one of its own, or name this one with --cgroup if they may suffer"
        )


def _interrupted(result: Result) -> str:
    return INTERRUPTED + "".join(f" at {second.at:.1f} s" for second in result.seconds[-1:])


def _facts(target: Target, limit: int | None, scenario: Scenario) -> dict[str, str]:
    """What a reader of the result should know of how it was taken."""
    facts = {"scenario": scenario.about} if scenario.about else {}
    if target.pid is not None:
        facts["process"] = str(target.pid)
    if target.group is not None:
        facts["memory cgroup"] = f"{target.group.path} (version {target.group.version})"
        facts["limit at the start"] = size_text(limit) if limit is not None else "none"
    return facts
