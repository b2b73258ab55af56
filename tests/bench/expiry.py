"""What expiry costs: items whose times are spread over a minute, gone by themselves, never read.

Fills a store, lets its upkeep run as the server does and prints how late the last item of a second went,
what share of one core the upkeep took, and the resident size. About 80 seconds:

    python -m tests.bench.expiry

With --fast the clock is set instead of waited for, one second a step, for a size or a span that would take
too long (5 GB; the share is that of the seconds looked at):

    python -m tests.bench.expiry --fast --items 30000000 --spread 3600 --seconds 60
"""

from __future__ import annotations

import argparse
import gc
import os
import random
import time
from pathlib import Path

from cacheserver.housekeeping import REST_SECONDS, UPKEEP_SECONDS, UPKEEP_US
from cacheserver.store.store import Store

MIB = 1 << 20


def resident() -> int:
    """Bytes of this process that the kernel holds in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


def fill(store: Store, items: int, spread: int, now: int, first: int) -> list[int]:
    """Write `items` of 20-byte keys and 100-byte values, the first of them due at `now` + `first`.

    Returns how many are left at each second from then on.
    """
    rng = random.Random(1)
    value = b"v" * 100
    ends = [0] * (spread + 1)
    for n in range(items):
        ttl = rng.randrange(spread)
        ends[ttl] += 1
        store.put("set", b"key-%016d" % n, value, exptime=now + first + ttl, now=now)
    alive, left = [], items
    for n in ends:
        left -= n
        alive.append(left)
    return alive


class Meter:
    """CPU seconds of the upkeep, and of its longest turn."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.cpu = self.longest = 0.0

    def upkeep(self, now: int) -> bool:
        begun = time.thread_time()
        more = self.store.maintain(now, UPKEEP_US)
        used = time.thread_time() - begun
        self.cpu += used
        self.longest = max(self.longest, used)
        return bool(more)


def in_real_time(items: int, spread: int, shards: int) -> None:
    base = resident()
    store = Store(shards=shards)
    zero = time.monotonic() - 100

    def clock() -> float:
        return time.monotonic() - zero

    lead = 10 + items // 100_000  # the fill takes less
    start = int(clock())
    alive = fill(store, items, spread, start, lead)
    full = resident() - base
    meter = Meter(store)
    late: dict[int, float] = {}
    second, at_once = 0, False
    while clock() < start + lead - 1:
        time.sleep(UPKEEP_SECONDS)
    begun = time.perf_counter()
    print(f"{items} items, times spread over {spread} s, {shards} shards, {full / MIB:.0f} MiB resident")
    print(f"{'second':>6} {'items':>9} {'alive':>9} {'MiB':>6} {'late s':>7} {'core %':>7}")
    while second < spread or store.snapshot()["committed"] > 12 * MIB:
        time.sleep(REST_SECONDS if at_once else UPKEEP_SECONDS)
        at_once = meter.upkeep(int(clock()))
        now = clock()
        held = store.snapshot()["curr_items"]
        while second < spread and start + lead + second <= now and held <= alive[second]:
            late[second] = now - (start + lead + second)
            second += 1
            if second % 10 == 0:
                share = 100 * meter.cpu / (time.perf_counter() - begun)
                size = (resident() - base) / MIB
                due, worst = alive[second - 1], max(late.values())
                print(f"{second:6} {held:9} {due:9} {size:6.0f} {worst:7.2f} {share:7.2f}")
        if now > start + lead + spread + 30:
            break
    share = 100 * meter.cpu / (time.perf_counter() - begun)
    back = clock() - (start + lead + spread - 1)
    turn = meter.longest * 1e3
    print(f"worst lateness {max(late.values()):.2f} s; {share:.2f} % of one core; longest turn {turn:.2f} ms")
    print(f"{(resident() - base) / MIB:.0f} MiB resident {back:.2f} s after the last item's time")


def with_set_clock(items: int, spread: int, shards: int, seconds: int) -> None:
    base = resident()
    store = Store(shards=shards)
    now = 1000
    alive = fill(store, items, spread, now, 1)
    full = resident() - base
    meter = Meter(store)
    turns = 0
    times = store.snapshot()["bytes_side"]
    for second in range(seconds):
        now += 1
        more = True
        while more or store.snapshot()["curr_items"] > alive[second]:
            more = meter.upkeep(now)
            turns += 1
    print("    items spread s    MiB times MiB  core %  turns/s longest ms")
    print(
        f"{items:9} {spread:8} {full / MIB:6.0f} {times / MIB:9.1f} {100 * meter.cpu / seconds:7.2f}"
        f" {turns / seconds:8.1f} {meter.longest * 1e3:10.2f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--spread", type=int, default=60, help="seconds")
    parser.add_argument("--shards", type=int, default=4)
    parser.add_argument("--fast", action="store_true", help="set the clock instead of waiting for it")
    parser.add_argument("--seconds", type=int, default=60, help="with --fast: how many to look at")
    args = parser.parse_args()
    gc.disable()
    if args.fast:
        with_set_clock(args.items, args.spread, args.shards, min(args.seconds, args.spread))
    else:
        in_real_time(args.items, args.spread, args.shards)


if __name__ == "__main__":
    main()
