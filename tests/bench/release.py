"""What giving memory back costs: hard rates, what a soft shrink keeps, and what clients feel of one.

From the repository root, on a quiet machine with 2 CPUs and 4 GiB to spare (about four minutes in all):

    python -m tests.bench.release            all three tables
    python -m tests.bench.release hard       bytes freed by Store.shrink(256 MiB, True) of 1 GiB / wall time
    python -m tests.bench.release soft       hot items left after a soft shrink of 25 %
    python -m tests.bench.release latency    p99 of gets during a soft shrink of 1 GiB, and without

hard: in process, on the calling thread, one shard, 20-byte keys; upkeep runs during the fill as in the
server. "scattered" is the same store after as many reads and overwrites at random as it has items, three to
one, and an eighth of them new.
soft: in process; a random half of the items is read once, within the minute before the shrink.
latency: a served process (its monitor replaced by tests.bench.asked_server, which asks for 1 GiB and nothing
else) under a closed loop of gets from two other processes. Rounds with and without a shrink alternate; of a
round with one, only the gets that ended while it went on count. The figures are medians over the rounds.
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
import statistics
import subprocess
import sys
import time
from multiprocessing.connection import Connection

from cacheserver.store.store import Store
from tests.servers import HOST, Server, free_port
from tests.wire import Wire

MIB = 1 << 20
GIB = 1 << 30
HARD_SIZES = (100, 4096)
SOFT_SIZES: tuple[tuple[int, ...], ...] = ((100,), (1000,), (4096,), (100, 1000, 4096))
ROUNDS = 5
READERS = 2
SECONDS = 4.0  # that a round lasts: longer than the shrink
SERVED_VALUE = 1000  # bytes
SERVED = 9 * GIB // 4  # bytes of values in the server before a shrink
ASKED = GIB


def key(number: int) -> bytes:
    """Return a key of 20 bytes."""
    return b"key:%016d" % number


def fill(store: Store, nbytes: int, sizes: tuple[int, ...], now: int) -> int:
    """Write values of the given sizes in turn until the store holds `nbytes`; returns how many."""
    values = [b"v" * size for size in sizes]
    number = 0
    while sum(store.ledger()) < nbytes:
        for _ in range(4096 if max(sizes) < 10_000 else 16):
            store.put("set", key(number), values[number % len(values)], now=now)
            number += 1
        store.maintain(now)
    return number


def scatter(store: Store, items: int, size: int) -> None:
    """Read and overwrite at random, then add an eighth of new items."""
    dice = random.Random(1)
    for turn in range(items):
        number = dice.randrange(items)
        if turn % 4:
            store.get(key(number), 2 + turn * 60 // items)
        else:
            store.put("set", key(number), b"w" * size, now=2 + turn * 60 // items)
    for number in range(items, items + items // 8):
        store.put("set", key(number), b"n" * size, now=62)


def hard_rate(size: int, scattered: bool) -> float:
    """Return GiB/s of wall time for 256 MiB of 1 GiB."""
    store = Store()
    items = fill(store, GIB, (size,), 1)
    if scattered:
        scatter(store, items, size)
    started = time.perf_counter()
    freed = store.shrink(256 * MIB, True)
    return freed / GIB / (time.perf_counter() - started)


def hard() -> None:
    print("\nhard: GiB/s of Store.shrink(256 MiB, True), one thread, median of 3\n")
    print("| value | after a fresh fill | scattered |\n|---|---|---|")
    for size in HARD_SIZES:
        rates = [
            statistics.median(hard_rate(size, scattered) for _ in range(3)) for scattered in (False, True)
        ]
        print(f"| {size} B | {rates[0]:.2f} | {rates[1]:.2f} |", flush=True)


def soft_one(sizes: tuple[int, ...]) -> str:
    store = Store()
    items = fill(store, 512 * MIB, sizes, 100)
    hot = random.Random(1).sample(range(items), items // 2)
    for turn, number in enumerate(hot):
        store.get(key(number), 160 + turn * 60 // len(hot))
    before = sum(store.ledger())
    started = time.thread_time()
    store.shrink(before // 4, False)
    while store.pay(1000):
        pass
    used = time.thread_time() - started
    kept = sum(store.get(key(number), 220) is not None for number in hot)
    rest = sum(store.get(key(number), 220) is not None for number in range(items)) - kept
    freed = store.snapshot()["released_soft"]
    return (
        f"| {', '.join(map(str, sizes))} B | {100 * freed / before:.1f} % | {100 * kept / len(hot):.2f} % | "
        f"{100 * rest / (items - len(hot)):.1f} % | {freed / GIB / used:.2f} |"
    )


def soft() -> None:
    print("\nsoft: a shrink of 25 % after a random half was read in the last minute\n")
    print("| values | given back | of the hot half left | of the other half left | GiB/s of CPU |")
    print("|---|---|---|---|---|")
    for sizes in SOFT_SIZES:
        print(soft_one(sizes), flush=True)


def write(port: int, begin: int, end: int) -> None:
    """Set items `begin` to `end`, pipelined."""
    body = b" 0 0 %d noreply\r\n" % SERVED_VALUE + b"v" * SERVED_VALUE + b"\r\n"
    with Wire((HOST, port), timeout=60.0) as wire:
        for number in range(begin, end, 512):
            wire.send(b"".join(b"set " + key(each) + body for each in range(number, min(end, number + 512))))
        wire.send(b"version\r\n")
        wire.read_line()


def read(port: int, seed: int, orders: Connection) -> None:
    """Get one item after the other, for as long as each order says; send (clock, seconds it took) of each."""
    dice = random.Random(seed)
    with Wire((HOST, port)) as wire:
        while (order := orders.recv()) is not None:
            begin, end, seconds = order
            took = []
            now = time.perf_counter()
            stop = now + seconds
            while now < stop:
                wire.send(b"get " + key(dice.randrange(begin, end)) + b"\r\n")
                while wire.read_line() != b"END":
                    pass
                last, now = now, time.perf_counter()
                took.append((now, now - last))
            orders.send(took)


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def latency() -> None:
    port = free_port()
    argv = [sys.executable, "-m", "tests.bench.asked_server", "-l", HOST, "-p", str(port), "-t", "2"]
    figures: dict[str, list[tuple[float, float]]] = {"without": [], "with": []}
    asked: list[tuple[int, float]] = []
    with Server(argv, (HOST, port), stdin=subprocess.PIPE) as server:
        ends = [multiprocessing.Pipe() for _ in range(READERS)]
        readers = [
            multiprocessing.Process(target=read, args=(port, seed, end[1]), daemon=True)
            for seed, end in enumerate(ends)
        ]
        for reader in readers:
            reader.start()
        newest = 0
        count = SERVED // SERVED_VALUE
        for turn in range(2 * ROUNDS):
            name = "with" if turn % 2 else "without"
            held = int(server.stats()["bytes"])
            missing = count - held // (SERVED_VALUE + len(key(0)) + 32)
            write(port, newest, newest + missing)
            newest += missing
            time.sleep(2)
            for end, _ in ends:
                end.send((newest - count, newest, SECONDS))
            time.sleep(0.1)
            begun, lasted = time.perf_counter(), SECONDS
            if name == "with":
                asked.append(ask(server))
                lasted = asked[-1][1]
            took = [seconds for end, _ in ends for at, seconds in end.recv() if 0 <= at - begun <= lasted]
            figures[name].append((percentile(took, 0.5), percentile(took, 0.99)))
        for end, _ in ends:
            end.send(None)
        for reader in readers:
            reader.join()
    show(figures, asked)


def ask(server: Server) -> tuple[int, float]:
    """Have the server shrink softly; returns (bytes, seconds it took)."""
    stdin = server.process.stdin
    assert stdin is not None
    seen = server.output().count("\n")
    stdin.write(b"soft %d\n" % ASKED)
    stdin.flush()
    while server.output().count("\n") == seen:
        time.sleep(0.02)
    released, seconds = server.output().splitlines()[-1].split()
    return int(released), float(seconds)


def show(figures: dict[str, list[tuple[float, float]]], asked: list[tuple[int, float]]) -> None:
    mean = statistics.median(freed / GIB for freed, _ in asked)
    length = statistics.median(seconds for _, seconds in asked)
    print(f"\nlatency: gets while {mean:.2f} GiB go back softly in {length:.2f} s, medians of {ROUNDS}\n")
    print("| | p50 | p99 |\n|---|---|---|")
    p99 = {}
    for name, values in figures.items():
        p99[name] = statistics.median(each[1] for each in values)
        half = statistics.median(each[0] for each in values)
        print(f"| {name} a shrink | {half * 1e6:.0f} us | {p99[name] * 1e6:.0f} us |")
    print(f"| ratio | | {p99['with'] / p99['without']:.2f} |", flush=True)


def main() -> int:
    tables = {"hard": hard, "soft": soft, "latency": latency}
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("tables", nargs="*", choices=[*tables, []], help="which; all by default")
    for name in parser.parse_args().tables or tables:
        tables[name]()
    return 0


if __name__ == "__main__":
    sys.exit(main())
