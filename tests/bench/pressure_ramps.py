"""Hog ramps beside a full, loaded server in one limited group: does the kernel kill anybody?

From the repository root, as root, on a machine with 2 CPUs and 3 GiB to spare (about eight minutes):

    python -m tests.bench.pressure_ramps [--runs 100] [--first 0] [--limit 1024] [--values 100] [--fresh]
    python -m tests.bench.pressure_ramps --list

A run: the server has filled the group with values of one size, a writer goes on writing them as fast as they
are taken, and a hog in the same group grows by an eighth to a half of the limit at 0.1 to 2.4 GiB/s, holds
that for a second and ends. Seed by seed, size and rate are drawn evenly from these ranges; seeds 0 and 1 are
the worst corner; even seeds meet values of 100 bytes, odd ones of 4 KiB. `--list` prints them all. One server
serves all runs of a value size, so that it has learnt from the runs before; `--fresh` starts one for each.

*achieved* is what the hog got of its rate; the scheduler prefers it to the server's workers and the writer.
*room left* is the limit less the highest usage of the run, as the kernel counts it (cgroup v2: that of the
group's whole life). *limit hits* are allocations that the limit stopped at first (v2 only). *hits* are taken
when the server is full and when the hog has ended: of 1000 keys among the newest nine tenths of what it says
to hold.

A group of less than 256 MiB is too small for this: the interpreters of server and hog take 60 MiB of it. Ends
with 1 when a process was killed or the server ended, with 2 when it could not measure.
"""

from __future__ import annotations

import argparse
import itertools
import random
import statistics
import sys
import time
from collections.abc import Iterator
from typing import NamedTuple

from tests.bench.pressure_scene import FIRST, GIB, MIB, Scene, hog_in, machine, run, scene

VALUES = (100, 4096)  # bytes; seeds alternate
RATES = (0.1, 2.4)  # GiB/s
SHARES = (1 / 8, 1 / 2)  # of the limit
HOLD = 1.0  # seconds


class Ramp(NamedTuple):
    """What a seed stands for."""

    seed: int
    value: int  # bytes
    mib: int
    rate: float  # GiB/s


class Outcome(NamedTuple):
    """What became of it."""

    ramp: Ramp
    achieved: float  # GiB/s; 0.0: the hog did not get it all
    room_left: int  # bytes
    limit_hits: int | None
    kills: int
    died: bool  # the server
    hits_before: float
    hits: float
    refused: int  # sets
    refill: float  # seconds until the server was full, before the ramp


def ramp_of(seed: int, limit: int) -> Ramp:
    """The ramp of `seed` in a group of `limit` MiB."""
    dice = random.Random(seed)
    share, rate = (
        (SHARES[1], RATES[1]) if seed < len(VALUES) else (dice.uniform(*SHARES), dice.uniform(*RATES))
    )
    return Ramp(seed, VALUES[seed % len(VALUES)], int(share * limit), round(rate, 2))


def one(place: Scene, ramp: Ramp, limit: int) -> Outcome:
    """Wait until the server is full, let the hog go, and count."""
    group = place.group
    with hog_in(group.path, ramp.mib, ramp.rate * GIB, HOLD, FIRST) as hog:
        refill = place.until_full()
        kills, hit, refused = group.kills(), group.limit_hits(), place.writer.refused
        hits_before = place.hits()
        group.forget_highest()
        hog.go()
        taken = hog.taken()
        whole = hog.ended() and taken is not None
        room = max(0, limit * MIB - group.highest_usage())  # the kernel charges in batches
        hits = 0.0
        try:
            hits = place.hits()
            died = place.dead()
        except (OSError, EOFError):
            died = True
        return Outcome(
            ramp,
            ramp.mib * MIB / GIB / (taken[1] - taken[0]) if whole and taken else 0.0,
            room,
            None if hit is None else (group.limit_hits() or 0) - hit,
            group.kills() - kills,
            died,
            hits_before,
            hits,
            place.writer.refused - refused,
            refill,
        )


def outcomes(ramps: list[Ramp], limit: int, fresh: bool) -> Iterator[Outcome]:
    """Run the ramps, those of one value size after those of the other."""
    for value in VALUES:
        left = [ramp for ramp in ramps if ramp.value == value]
        while left:
            with scene(limit * MIB, value) as place:
                while left:
                    outcome = one(place, left.pop(0), limit)
                    yield outcome
                    if fresh or outcome.died:
                        break


def row(one: Outcome) -> str:
    ramp = one.ramp
    end = "server died" if one.died else "-" if one.achieved else "hog killed"
    return (
        f"| {ramp.seed} | {ramp.value} | {ramp.mib} | {ramp.rate:.2f} | {one.achieved:.2f} |"
        f" {one.room_left / MIB:.1f} | {'-' if one.limit_hits is None else one.limit_hits} | {one.kills} |"
        f" {100 * one.hits_before:.0f} | {100 * one.hits:.0f} |"
        f" {one.refused} | {one.refill:.1f} | {end} |"
    )


def summary(done: list[Outcome], seconds: float) -> str:
    kills, deaths = sum(one.kills for one in done), sum(one.died for one in done)
    survived = sum(one.kills == 0 and not one.died for one in done)
    rates = [one.achieved for one in done if one.achieved]
    kept = sum(one.achieved >= 0.9 * one.ramp.rate for one in done)
    text = [
        f"survived {survived} of {len(done)} in {seconds:.0f} s: {kills} killed, server deaths {deaths},",
        f"least room left {min(one.room_left for one in done) / MIB:.1f} MiB,",
        f"{sum(one.refused for one in done)} sets refused.",
    ]
    if rates:
        text.append(
            f"Rates achieved: {min(rates):.2f} to {max(rates):.2f} GiB/s, median"
            f" {statistics.median(rates):.2f}; {kept} hogs got nine tenths of theirs."
        )
    return " ".join(text)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=100, help="how many seeds")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    parser.add_argument("--limit", type=int, default=1024, help="of the group, in MiB")
    parser.add_argument(
        "--values", type=int, choices=VALUES, help="only seeds that meet values of so many bytes"
    )
    parser.add_argument("--fresh", action="store_true", help="start a server for each run")
    parser.add_argument("--list", action="store_true", help="print what the seeds stand for, and end")
    wanted = parser.parse_args()
    seeds = (ramp_of(seed, wanted.limit) for seed in itertools.count(wanted.first))
    chosen = (ramp for ramp in seeds if wanted.values in (None, ramp.value))
    ramps = list(itertools.islice(chosen, wanted.runs))
    if wanted.list:
        print("| seed | values | hog MiB | GiB/s |\n|---|---|---|---|")
        for ramp in ramps:
            print(f"| {ramp.seed} | {ramp.value} | {ramp.mib} | {ramp.rate:.2f} |")
        return 0
    print(f"hog ramps in a group of {wanted.limit} MiB; {machine()}\n")
    print("| seed | values | hog MiB | GiB/s | achieved | room left MiB | limit hits | kills |", end="")
    print(" hits before % | after | refused | refill s | end |\n" + "|---" * 13 + "|", flush=True)
    begun = time.monotonic()
    done = []
    for outcome in outcomes(ramps, wanted.limit, wanted.fresh):
        done.append(outcome)
        print(row(outcome), flush=True)
    if done:
        print("\n" + summary(done, time.monotonic() - begun))
    return int(any(one.kills or one.died or not one.achieved for one in done))


if __name__ == "__main__":
    sys.exit(run(main))
