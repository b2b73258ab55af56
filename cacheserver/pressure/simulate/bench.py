"""Many runs on all processors, and what they add up to.

Knows: runs and their results. Must not know: how results are shown.
"""

from __future__ import annotations

import multiprocessing
import os
import re
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from cacheserver.pressure.simulate.run import OURS, Result, simulate
from cacheserver.pressure.simulate.scenarios import NAMED, drawn

CHUNK = 4  # runs handed to a process at a time

UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


class Job(NamedTuple):
    """One run to be made; plain words, so that a process can be told."""

    scenario: str  # a name of NAMED, or a seed in digits
    law: str
    limit: int  # bytes; 0: the seed's own


def run(job: Job) -> Result:
    """Make one run."""
    if job.scenario.isdigit():
        return simulate(drawn(int(job.scenario), job.limit), job.law)
    return simulate(NAMED[job.scenario](job.limit), job.law)


def run_all(jobs: Sequence[Job], progress: Callable[[int, int], None], workers: int = 0) -> list[Result]:
    """Make all runs, in the order of `jobs`. `workers`: processes; 0: one for each processor.

    `progress(done, all)` is called after each. The results do not depend on how many processes there are.
    """
    workers = min(workers or os.cpu_count() or 1, len(jobs))
    results: list[Result] = []
    if workers <= 1:
        for job in jobs:
            results.append(run(job))
            progress(len(results), len(jobs))
        return results
    with multiprocessing.Pool(workers) as pool:
        for result in pool.imap(run, jobs, CHUNK):
            results.append(result)
            progress(len(results), len(jobs))
    return results


class Tally(NamedTuple):
    """What one law's runs add up to. Shares of 1, seconds, counts."""

    law: str
    runs: int
    killed: int  # runs with headroom below zero
    killed_feasible: int  # among those whose largest jump was within our reserve
    feasible: int  # of those there are so many
    below: float  # seconds below zero in all
    utilisation: float  # mean over the runs
    worst: float  # the smallest utilisation
    shrinks: int
    names: tuple[str, ...]  # of the runs that went below zero


def tally(results: Iterable[Result]) -> list[Tally]:
    """Add up by law, in the order in which the laws come. Whether a run was feasible: by our reserve."""
    by_law: dict[str, list[Result]] = {}
    for result in results:
        by_law.setdefault(result.law, []).append(result)
    can = {one.scenario: one.feasible for one in by_law.get(OURS, ())}
    rows = []
    for law, runs in by_law.items():
        killed = [one for one in runs if not one.survived]
        feasible = [one for one in runs if can.get(one.scenario, False)]
        rows.append(
            Tally(
                law, len(runs), len(killed), sum(not one.survived for one in feasible), len(feasible),
                sum(one.below for one in runs), sum(one.utilisation for one in runs) / len(runs),
                min(one.utilisation for one in runs), sum(one.shrinks for one in runs),
                tuple(one.scenario for one in killed),
            )
        )  # fmt: skip
    return rows


def seeds(words: str) -> list[int]:
    """The seeds that `words` such as "0-999" or "3,7,20-29" name. ValueError where they make no sense."""
    found: list[int] = []
    for part in words.split(","):
        match = re.fullmatch(r"(\d+)(?:-(\d+))?", part.strip())
        if match is None:
            raise ValueError(f"{part!r} is no seed: say 7, 0-999 or 3,7,20-29")
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first:
            raise ValueError(f"{part!r} ends before it begins")
        found += range(first, last + 1)
    return found


def size(words: str) -> int:
    """The bytes that `words` such as "256M" or "1G" say. ValueError where they make no sense."""
    match = re.fullmatch(r"(\d+)\s*([KMG]?)(?:i?B)?", words.strip(), re.IGNORECASE)
    if match is None or int(match[1]) == 0:
        raise ValueError(f"{words!r} is no size: say 256M or 1G")
    return int(match[1]) * UNITS[match[2].upper()]
