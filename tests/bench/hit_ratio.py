"""The tables of docs/hit-ratio.md: hit ratios over request streams of this store, of plain LRU, of memcached.

Run as `python -m tests.bench.hit_ratio <folder of traces>`. In process the store is called directly, and
plain LRU gets as many items (of unequal ones: as many bytes of keys and values) as the store holds in the
end. With --servers this server and memcached get the same requests over a socket, and the same memory.

Knows: the store's face, how to start servers. Owns: the servers it starts, one at a time.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from cacheserver.store.store import Store
from loadtest.replay import KEY_BYTES, Meter, Values, at_least, fair_share, key_name, replay
from loadtest.traces import FORMS, TraceError
from loadtest.wire import Wire, WireError
from tests.bench.cases import FEWEST, KNOWN, SHARES, TRACES, Stream, lru, streams
from tests.capped_server import capped_command
from tests.servers import HOST, Server, free_port, reference_command

MIB = 1 << 20
PAGES = range(4, 9)  # that a store of equal items may have in process
HEADER = 32  # bytes of an item beside key and value
RATE = 10_000  # requests a second of the store's clock, in process
STEP = RATE // 10  # between two rounds of upkeep
MARK = "<!-- {} -->"


# -- in process --


def held(store: Store, distinct: dict[int, int]) -> tuple[int, int]:
    """How many of the keys the store has, and how many bytes they have with their values."""
    present = [size for key, size in distinct.items() if store.claim(key_name(key)) is not None]
    return len(present), sum(present) + len(present) * KEY_BYTES


def fit(count: int) -> tuple[int, int]:
    """The capacity and the size of value with which a store holds nearest to `count` items of that size."""
    found = []
    for pages in PAGES:
        size = max(1, MIB * pages // count - HEADER - KEY_BYTES)
        capacity = (pages + 1) * MIB - 1  # the last, broken page is for the index
        store = Store(capacity=capacity)
        keys = dict.fromkeys(range(3 * count), size)
        in_process(store, [key_name(key) for key in keys], None, size)
        found.append((abs(held(store, keys)[0] - count), capacity, size))
    return min(found)[1:]


def in_process(store: Store, names: Sequence[bytes], sizes: Sequence[int] | None, size: int) -> int:
    """Replay against a store; hits. sizes: bytes of each request's value; None: `size` each."""
    supply = bytes(size if sizes is None else max(sizes))  # the slice of all of it is no copy
    get, put = store.get, store.put
    of = itertools.repeat(size) if sizes is None else iter(sizes)
    hits = 0
    for start in range(0, len(names), STEP):
        now = 2 + start // RATE
        store.maintain(now)
        for name in names[start : start + STEP]:
            nbytes = next(of)
            if get(name, now) is not None:
                hits += 1
            else:
                put("set", name, supply[:nbytes], 0, 0, 0, now)
    return hits


@dataclass(frozen=True, slots=True)
class Row:
    """Hit ratios in percent of one stream and one size of cache; `items`: what the store held in the end."""

    stream: Stream
    share: float
    items: int
    lru: float
    ours: float


def compare_in_process(stream: Stream, share: float, cache_bytes: int) -> Row:
    """Measure a row: equal items in a store of a few pages, others in one of `cache_bytes`."""
    stream = stream.filling(share, cache_bytes)
    count = len(stream.keys)
    capacity, size = fit(stream.items(share)) if stream.sizes is None else (cache_bytes, 0)
    store = Store(capacity=capacity)
    own = in_process(store, stream.names(), stream.sizes, size)
    items, room = held(store, stream.distinct)
    if stream.sizes is None:
        hits, _ = lru(stream.keys, None, items)
    else:
        hits, _ = lru(stream.keys, (size + KEY_BYTES for size in stream.sizes), room)
    return Row(stream, share, items, 100 * hits / count, 100 * own / count)


# -- over a socket --


@dataclass(frozen=True, slots=True)
class Duel:
    """Hit ratios in percent of two servers; `size`: bytes of every value, 0 where the trace tells."""

    stream: Stream
    share: float
    size: int
    requests: int
    memcached: float
    ours: float


def compare_servers(stream: Stream, share: float, cache_bytes: int, traffic: int) -> Duel:
    """Replay against memcached and this server, for as long as plain LRU would miss `traffic` bytes."""
    stream = stream.filling(share, cache_bytes)
    size: int | None = None
    if stream.sizes is None:
        size = fair_share(cache_bytes, stream.items(share))
        _, count = lru(stream.keys, None, stream.items(share), traffic // (size + KEY_BYTES))
    else:
        _, count = lru(stream.keys, (size + KEY_BYTES for size in stream.sizes), cache_bytes, traffic)
    window = max(1, min(64, stream.items(share) // 20))
    ratios = []
    for name in ("memcached", "cacheserver"):
        port = free_port()
        if name == "memcached":
            argv = reference_command(port, "-m", str(cache_bytes // MIB), "-t", "1")
        else:
            argv = capped_command(port, cache_bytes, "-t", "1")
        label = f"{stream.name} {share:g} % {name}: "
        with Server(argv, (HOST, port)), Wire(f"{HOST}:{port}", timeout=60.0) as wire:
            meter = Meter(label)
            tally = replay(wire, stream.blocks(count), Values(size), window=window, progress=meter)
            meter.done()
        print(f"{label}{tally}", file=sys.stderr, flush=True)
        ratios.append(100 * tally.ratio)
    return Duel(stream, share, size or 0, count, *ratios)


# -- the tables --


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Write a table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def summary(gains: Sequence[float]) -> str:
    return f"\nMean {sum(gains) / len(gains):+.2f} points, worst {min(gains):+.2f}.\n"


def first_table(rows: Sequence[Row]) -> str:
    """Hit ratios in process."""
    lines = []
    for row in rows:
        known = row.stream.known.get(int(row.share), ())
        lines.append(
            [
                row.stream.name,
                f"{row.share:g} %",
                str(row.items),
                f"{row.lru:.2f}",
                f"{row.ours:.2f}",
                f"{row.ours - row.lru:+.2f}",
                *(f"{ratio:.1f}" for ratio in known or ()),
                *([""] * (len(KNOWN) - len(known))),
            ]
        )
    text = table(("trace", "cache", "items", "LRU", "cacheserver", "gain", *KNOWN), lines)
    return text + summary([row.ours - row.lru for row in rows])


def second_table(duels: Sequence[Duel]) -> str:
    """Hit ratios over a socket."""
    lines = (
        [
            duel.stream.name,
            f"{duel.share:g} %",
            str(duel.size) if duel.size else "as traced",
            str(duel.requests),
            f"{duel.memcached:.2f}",
            f"{duel.ours:.2f}",
            f"{duel.ours - duel.memcached:+.2f}",
        ]
        for duel in duels
    )
    head = ("trace", "cache", "bytes of a value", "requests", "memcached", "cacheserver", "gain")
    return table(head, lines) + summary([duel.ours - duel.memcached for duel in duels])


def put_between_marks(path: Path, mark: str, text: str) -> None:
    """Replace what stands in a file between the comments `mark` and "end of `mark`"."""
    before, start, rest = path.read_text().partition(MARK.format(mark) + "\n")
    _, end, after = rest.partition(MARK.format(f"end of {mark}"))
    if not start or not end:
        raise SystemExit(f"{path} has no lines {MARK.format(mark)} and {MARK.format(f'end of {mark}')}")
    path.write_text(f"{before}{start}\n{text}\n{end}{after}")


# -- as a program --


def arguments(given: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.hit_ratio", description=__doc__)
    names = [trace.name for trace in TRACES]
    parser.add_argument(
        "folder", type=Path, help=f"where the traces are: {', '.join(t.file for t in TRACES)}"
    )
    parser.add_argument("--only", nargs="+", choices=names, default=[], help="these of them")
    parser.add_argument(
        "--add", nargs="+", default=[], metavar="TRACE", help="files or laws (see loadtest.replay)"
    )
    parser.add_argument("--form", choices=FORMS, default="", help="of the files added")
    parser.add_argument(
        "--share", nargs="+", type=float, default=SHARES, help="of the distinct keys, in percent"
    )
    parser.add_argument(
        "--requests", type=at_least(1), default=3_000_000, help="of each trace at most (3000000)"
    )
    parser.add_argument("--servers", action="store_true", help="also over a socket, beside memcached")
    parser.add_argument("--servers-only", action="store_true", help="only that")
    parser.add_argument("--cache-mib", type=at_least(64), default=64, help="memory of the servers (64)")
    parser.add_argument(
        "--traffic-gib",
        type=at_least(1),
        default=20,
        help="bytes that are missed at most, for each server (20)",
    )
    parser.add_argument("--markdown", type=Path, help="put the tables into this file, between their marks")
    return parser.parse_args(given)


def measure(plan: argparse.Namespace) -> Iterator[Row | Duel]:
    """Yield what is measured, row by row."""
    cache_bytes = plan.cache_mib * MIB
    for stream in streams(plan.folder, plan.only, plan.add, plan.form, plan.requests):
        for share in plan.share:
            if stream.items(share) < FEWEST:
                continue
            if not plan.servers_only:
                yield compare_in_process(stream, share, cache_bytes)
            if plan.servers or plan.servers_only:
                yield compare_servers(stream, share, cache_bytes, plan.traffic_gib << 30)


def main(given: Sequence[str] | None = None) -> int:
    """Run as a program."""
    plan = arguments(given)
    rows: list[Row] = []
    duels: list[Duel] = []
    try:
        for found in measure(plan):
            if isinstance(found, Row):
                rows.append(found)
                text = f"LRU {found.lru:.2f} cacheserver {found.ours:.2f}"
                print(f"{found.stream.name} {found.share:g} %: {text}", file=sys.stderr, flush=True)
            else:
                duels.append(found)
    except (TraceError, WireError) as error:
        print(f"hit_ratio: {error}", file=sys.stderr)
        return 1
    if not rows and not duels:
        print(f"hit_ratio: {plan.folder} has none of the traces: see --help for their names", file=sys.stderr)
        return 1
    for mark, text in (
        ("in process", first_table(rows) if rows else ""),
        ("over a socket", second_table(duels) if duels else ""),
    ):
        if text:
            print(text)
            if plan.markdown is not None:
                put_between_marks(plan.markdown, mark, text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
