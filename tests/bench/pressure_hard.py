"""64 MiB asked hard of a full server, and taken from it by a neighbour: how soon are they back at the host?

From the repository root, as root, on a machine with 2 CPUs and 3 GiB to spare (about ten minutes):

    python -m tests.bench.pressure_hard [--times 200] [--limit 1024] [--mib 64] [asked] [taken]

asked: in the server, full and being written to, a thread of the monitor's priority asks the store hard; the
time from the request to its return, and what the group's usage says: how much lower it is right after that
than at the moment of the request. Wanted: 20 ms at p99.
taken: a hog in the group takes as much at full speed and holds it for half a second, while the monitor, as it
is, looks after the group. *first fall* is the time from the hog's first byte until the group's usage falls
for the first time; *back* from the hog's last byte until nine tenths of what it took are off the usage again.

The group's usage is read every 0.2 ms from outside. Before each time the server is full again. Ends with 1
when a process was killed.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import threading
import time
from typing import NamedTuple

from tests.bench.pressure_scene import FIRST, MIB, Failed, Scene, hog_in, machine, percentile, run, scene

VALUES = (100, 4096)
SAMPLE = 0.0002  # seconds
PATIENCE = 10.0  # seconds for the memory to come back
FALL = MIB  # bytes below the highest usage so far that are a fall, not the kernel's batches of charging
HOLD = 0.5  # seconds the hog holds what it took: the memory must be back by then
BACK = 0.9  # of what it took


class Sampler:
    """Reads the group's usage at short intervals in a thread, with the time of each reading."""

    def __init__(self, place: Scene) -> None:
        name = "memory.usage_in_bytes" if place.group.version == 1 else "memory.current"
        self._fd = os.open(place.group.path / name, os.O_RDONLY)
        self.seen: list[tuple[float, int]] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Sampler:
        self._thread.start()
        return self

    def __exit__(self, *_ignored: object) -> None:
        self._stop.set()
        self._thread.join()
        os.close(self._fd)

    def now(self) -> int:
        return int(os.pread(self._fd, 32, 0))

    def _run(self) -> None:
        while not self._stop.is_set():
            self.seen.append((time.monotonic(), self.now()))
            time.sleep(SAMPLE)


class Taken(NamedTuple):
    """One step of the hog, in seconds."""

    step: float  # that the step lasted
    first_fall: float
    back: float


def fall_and_return(
    seen: list[tuple[float, int]], begun: float, ended: float, step: int
) -> tuple[float, float] | None:
    """(first fall, back) in seconds, from readings of usage around a step of bytes; None: not while held."""
    before = [usage for at, usage in seen if at <= begun]
    after = [(at, usage) for at, usage in seen if begun < at < ended + HOLD]
    if not before or not after:
        return None
    highest, fell, back = 0, None, None
    for at, usage in after:
        highest = max(highest, usage)
        if fell is None and usage <= highest - FALL:
            fell = at
        if at >= ended and usage <= before[-1] + (1 - BACK) * step:
            back = at
            break
    return None if fell is None or back is None else (fell - begun, back - ended)


def asked(place: Scene, nbytes: int) -> tuple[int, float, int]:
    """Have the store asked hard: (bytes freed, seconds, bytes that usage fell by)."""
    stdin = place.server.process.stdin
    assert stdin is not None
    with Sampler(place) as sampler:
        count = place.server.output().count("\n")
        stdin.write(b"%d\n" % nbytes)
        stdin.flush()
        end = time.monotonic() + PATIENCE
        while place.server.output().count("\n") == count:
            if time.monotonic() > end:
                raise Failed(f"a hard request has not returned within {PATIENCE:.0f} s")
            time.sleep(SAMPLE)
    freed, seconds = place.server.output().splitlines()[-1].split()
    usages = [usage for _, usage in sampler.seen]
    highest = max(range(len(usages)), key=usages.__getitem__)
    return int(freed), float(seconds), usages[highest] - min(usages[highest:])


def asked_row(value: int, limit: int, mib: int, times: int) -> str:
    done = []
    with scene(limit * MIB, value, "tests.bench.pressure_asked", subprocess.PIPE) as place:
        for _ in range(times):
            place.until_full()
            done.append(asked(place, mib * MIB))
        kills = place.group.kills()
    took = [1000 * seconds for _, seconds, _ in done]
    least = min(freed for freed, _, _ in done) / MIB
    fell = percentile([float(fall) for _, _, fall in done], 0.5) / MIB
    return (
        f"| {value} B | {times} | {percentile(took, 0.5):.1f} | {percentile(took, 0.99):.1f} |"
        f" {max(took):.1f} | {least:.1f} | {fell:.1f} | {kills} |"
    )


def taken_once(place: Scene, mib: int) -> Taken | None:
    """One step; None when it cannot be read out of the samples, or the hog was killed."""
    with hog_in(place.group.path, mib, 0.0, HOLD, FIRST) as hog:
        place.until_full()
        with Sampler(place) as sampler:
            time.sleep(0.01)
            hog.go()
            times = hog.taken()
            hog.ended()
        if times is None:
            return None
        found = fall_and_return(sampler.seen, *times, mib * MIB)
    return None if found is None else Taken(times[1] - times[0], *found)


def taken_row(value: int, limit: int, mib: int, times: int) -> str:
    with scene(limit * MIB, value) as place:
        done = []
        for _ in range(times):
            done.append(taken_once(place, mib))
            if place.dead():
                break
        kills = place.group.kills()
    good = [each for each in done if each is not None]
    if not good:
        return f"| {value} B | 0 of {len(done)} | | | | | | {kills} |"
    spread = [
        f"{1000 * percentile([each[field] for each in good], share):.1f}"
        for field, share in ((0, 0.5), (1, 0.5), (1, 0.99), (2, 0.5), (2, 0.99))
    ]
    return f"| {value} B | {len(good)} of {len(done)} | {' | '.join(spread)} | {kills} |"


TABLES = {
    "asked": (
        "| values | times | p50 ms | p99 ms | longest | least freed MiB | usage fell, p50 MiB | kills |",
        asked_row,
    ),
    "taken": (
        "| values | times | step ms, p50 | first fall ms, p50 | p99 | back ms, p50 | p99 | kills |",
        taken_row,
    ),
}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("tables", nargs="*", choices=[*TABLES, []], help="which; both by default")
    parser.add_argument("--times", type=int, default=200, help="requests, and steps, for each value size")
    parser.add_argument("--limit", type=int, default=1024, help="of the group, in MiB")
    parser.add_argument("--mib", type=int, default=64, help="asked for, and taken, each time")
    wanted = parser.parse_args()
    killed = False
    print(f"{wanted.mib} MiB in a group of {wanted.limit} MiB; {machine()}")
    for name in wanted.tables or TABLES:
        head, row_of = TABLES[name]
        print(f"\n{name}\n\n{head}\n" + "|---" * 8 + "|", flush=True)
        for value in VALUES:
            row = row_of(value, wanted.limit, wanted.mib, wanted.times)
            killed = killed or not row.endswith(" 0 |")
            print(row, flush=True)
    return int(killed)


if __name__ == "__main__":
    sys.exit(run(main))
