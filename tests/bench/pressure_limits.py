"""A limit that is changed under a full, loaded server: down in steps, up again, and down at once.

From the repository root, as root, on a machine with 2 CPUs and 3 GiB to spare (about two minutes):

    python -m tests.bench.pressure_limits [--limit 1024] [--goal 512] [--values 4096] [--at-once]

down: as docs/pressure.md tells an operator to. cgroup v1: in steps of half the free reserve, each after the
server has its reserve again; a write that the kernel refuses (EBUSY) is tried again. cgroup v2: memory.high
first, in one step, and memory.max when usage has followed.
up: in one step; the server grows into it.
at once: the whole way down in one write, to show why not. v1 refuses it; on v2 the kernel kills what does not
yield at once, so there it is done only with `--at-once`, and its kills do not count.

*followed* is the time from the last write until `stats` names the new limit and the reserve is free again.
Ends with 1 when a process was killed that need not have been.
"""

from __future__ import annotations

import argparse
import errno
import sys
import time
from typing import NamedTuple

from tests.bench.pressure_scene import MIB, Failed, Scene, machine, run, scene, until

PATIENCE = 60.0  # seconds for one step to be followed
RETRY = 0.02  # seconds between two tries of a refused write
STEP_SHARE = 0.5  # of the reserve: the other half is the neighbours'


class Change(NamedTuple):
    """A limit changed: what it took, in seconds."""

    writes: int
    refused: int
    seconds: float  # from the first write to the last
    followed: float


def at_rest(place: Scene, limit: int) -> bool:
    """Whether the server knows of `limit` and has nine tenths of its reserve free."""
    stats = place.wire.stats()
    return int(stats["pressure_limit"]) == limit and int(stats["pressure_headroom"]) >= 0.9 * int(
        stats["pressure_reserve"]
    )


def write(place: Scene, limit: int) -> int:
    """Set the limit, as often as it takes; returns how often the kernel refused."""
    refused = 0
    end = time.monotonic() + PATIENCE
    while True:
        try:
            place.group.set_limit(limit)
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
            refused += 1
            if time.monotonic() > end:
                raise Failed(f"{limit // MIB} MiB refused for {PATIENCE:.0f} s") from None
            time.sleep(RETRY)
        else:
            return refused


def follow(place: Scene, limit: int) -> float:
    """Wait until the server is at rest under `limit`; returns the seconds."""
    begun = time.monotonic()
    until(lambda: at_rest(place, limit), PATIENCE, f"{limit // MIB} MiB are not followed", every=0.01)
    return time.monotonic() - begun


def down_by_steps(place: Scene, limit: int, goal: int) -> Change:
    """Lower the limit from `limit` to `goal` bytes in steps of half the reserve."""
    begun = time.monotonic()
    writes = refused = 0
    followed = 0.0
    while limit > goal:
        step = int(place.number("pressure_reserve") * STEP_SHARE) // MIB * MIB
        limit = max(goal, limit - max(step, MIB))
        refused += write(place, limit)
        writes += 1
        lasted = time.monotonic() - begun
        followed = follow(place, limit)
    return Change(writes, refused, lasted, followed)


def down_by_throttle(place: Scene, limit: int, goal: int) -> Change:
    """Lower memory.high from `limit` to `goal` bytes, then memory.max."""
    begun = time.monotonic()
    place.group.throttle(goal)
    followed = follow(place, goal)
    place.group.set_limit(goal)
    place.group.throttle(0)
    return Change(2, 0, time.monotonic() - begun, followed)


def up(place: Scene, goal: int) -> Change:
    """Raise the limit to `goal` bytes; followed when the server has grown into it."""
    begun = time.monotonic()
    place.group.set_limit(goal)
    until(
        lambda: place.number("pressure_limit") == goal, PATIENCE, "the raised limit is not seen", every=0.01
    )
    place.until_full()
    return Change(1, 0, 0.0, time.monotonic() - begun)


def at_once(place: Scene, goal: int) -> str:
    """Write `goal` bytes a single time; returns what happened."""
    usage, begun = place.group.usage(), time.monotonic()
    try:
        place.group.set_limit(goal)
        answer = "accepted"
    except OSError as error:
        answer = f"refused, {errno.errorcode.get(error.errno or 0, str(error))}"
    seconds = time.monotonic() - begun
    time.sleep(1.0)
    end = "server ended" if place.dead() else "server lives"
    return (
        f"{answer} after {seconds:.2f} s; usage was {usage / MIB:.0f} MiB, a second later"
        f" {place.group.usage() / MIB:.0f} MiB; {place.group.kills()} killed, {end}"
    )


def row(name: str, change: Change, place: Scene, before: int) -> str:
    usage = place.group.usage()
    return (
        f"| {name} | {change.writes} | {change.refused} | {change.seconds:.2f} | {change.followed:.2f} |"
        f" {before / MIB:.0f} | {usage / MIB:.0f} | {place.writer.refused} | {place.group.kills()} |"
    )


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--limit", type=int, default=1024, help="of the group at first, in MiB")
    parser.add_argument("--goal", type=int, default=512, help="the lowered limit, in MiB")
    parser.add_argument("--values", type=int, default=4096, choices=[100, 4096], help="bytes of each value")
    parser.add_argument("--at-once", action="store_true", help="on cgroup v2, too, where it kills")
    wanted = parser.parse_args()
    limit, goal = wanted.limit * MIB, wanted.goal * MIB
    with scene(limit, wanted.values) as place:
        version = place.group.version
        print(f"{wanted.limit} MiB, cgroup v{version}, {wanted.values}-byte values; {machine()}\n")
        print("| limit | writes | EBUSY | took s | followed s | usage before MiB |", end="")
        print(" after | refused sets | kills |")
        print("|---|---|---|---|---|---|---|---|---|", flush=True)
        place.until_full()
        before = place.group.usage()
        lower = down_by_steps if version == 1 else down_by_throttle
        print(row("down", lower(place, limit, goal), place, before), flush=True)
        before = place.group.usage()
        print(row("up", up(place, limit), place, before), flush=True)
        if version == 2:
            before = place.group.usage()
            print(
                row("down, steps of memory.max", down_by_steps(place, limit, goal), place, before), flush=True
            )
            up(place, limit)
        kills, dead = place.group.kills(), place.dead()
        if version == 1 or wanted.at_once:
            print(f"\nat once: {at_once(place, goal)}", flush=True)
            if version == 1:
                kills, dead = place.group.kills(), place.dead()
    return int(kills > 0 or dead)


if __name__ == "__main__":
    sys.exit(run(main))
