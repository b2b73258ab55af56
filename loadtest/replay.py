"""Replay of a request stream against a memcached server, read-through: what is not there is stored.

Knows: streams, the load tests' own codec. Must not know: which server it is, how it is built.

Requests go out in windows: first the gets of all keys of the window, at once; then the sets of those that
were missing, and behind them the gets of keys that come again in the same window. So a request sees what an
earlier one for its key has stored, as it would one by one. What differs from that is the order of different
keys within a window: with a window of 1 nothing does.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from loadtest.sizes import positive
from loadtest.streams import LAWS, Distributions, make
from loadtest.traces import FORMS, Block, TraceError, first, read
from loadtest.wire import Wire, WireError

KEY_BYTES = 16  # of every key, so that values of one size make items of one size
MASK = (1 << 64) - 1
WINDOW = 16
MOST_WINDOW = 1024
LARGEST = 1_000_000  # bytes of value; servers refuse items of more than 1 MiB unless told otherwise


def key_name(key: int) -> bytes:
    """The key of a trace as a server sees it."""
    return b"%016x" % (key & MASK)


def fair_share(cache_bytes: int, cache_keys: int) -> int:
    """Bytes of value with which `cache_keys` keys and values alone take `cache_bytes`.

    What a server needs beside them it has to find in the same memory, so it holds fewer items than that.
    """
    return max(0, min(LARGEST, cache_bytes // cache_keys - KEY_BYTES))


@dataclass(slots=True)
class Values:
    """How large a key's value is: `size` bytes, or what the trace says times `factor`; `largest` at most."""

    size: int | None = None
    factor: float = 1.0
    largest: int = LARGEST

    def of(self, block: Block) -> Iterable[int]:
        """Bytes of value for each request of a block."""
        if self.size is None and block.sizes is not None:
            return (min(self.largest, int(size * self.factor)) for size in block.sizes)
        return (min(self.largest, 100 if self.size is None else self.size) for _ in block.keys)


@dataclass(slots=True)
class Tally:
    """What came of the requests: `refused` of the misses the server did not store; `seconds` on the clock."""

    requests: int = 0
    hits: int = 0
    refused: int = 0
    seconds: float = 0.0

    @property
    def ratio(self) -> float:
        return self.hits / self.requests if self.requests else 0.0

    def __str__(self) -> str:
        rate = self.requests / self.seconds if self.seconds else 0.0
        return (
            f"{self.requests} requests, {self.hits} hits, hit ratio {self.ratio:.4f}, {self.refused} refused;"
            f" {self.seconds:.1f} s, {rate:.0f} requests/s"
        )


Progress = Callable[[Tally], object]


def replay(
    wire: Wire,
    blocks: Iterable[Block],
    values: Values,
    *,
    window: int = WINDOW,
    classic: bool = False,
    progress: Progress | None = None,
) -> Tally:
    """Send a stream of requests to a server and count what it had. Raises TraceError, WireError.

    classic: ask by `get`, so that values cross the wire; else, where the server has it, by `mg` without them.
    """
    if not 1 <= window <= MOST_WINDOW:
        raise ValueError(f"a window has 1 to {MOST_WINDOW} requests, not {window}")
    tally = Tally()
    meta = not classic and wire.speaks_meta()
    supply = memoryview(b"v" * values.largest)
    waiting: dict[int, int] = {}  # key and size, in order
    again: list[int] = []  # keys that came again in the window

    def flush() -> None:
        names = [key_name(key) for key in waiting]
        there = wire.present(names, meta)
        sizes = zip(names, waiting.values(), there, strict=True)
        missing = [(name, supply[:size]) for name, size, hit in sizes if not hit]
        later: list[bool] = []
        if missing or again:
            stored, later = wire.store(missing, [key_name(key) for key in again], meta)
            tally.refused += len(missing) - stored
        tally.requests += len(there) + len(later)
        tally.hits += sum(there) + sum(later)
        waiting.clear()
        again.clear()

    start = time.perf_counter()
    for block in blocks:
        for key, size in zip(block.keys, values.of(block), strict=True):
            if key in waiting:
                again.append(key)
            else:
                waiting[key] = size
            if len(waiting) + len(again) == window:
                flush()
        if progress is not None:
            tally.seconds = time.perf_counter() - start
            progress(tally)
    if waiting:
        flush()
    tally.seconds = time.perf_counter() - start
    return tally


# -- as a program --


def stream(trace: str, form: str, keys: int) -> Iterator[Block]:
    """The requests of a file, of a folder of distributions, or of a law in words for make()."""
    path = Path(trace)
    if path.is_dir():
        return Distributions(path).stream(keys)
    if not path.exists() and trace.partition(":")[0] in LAWS:
        return make(trace)
    return read(path, form)


class Meter:
    """Tells on stderr how far a replay is: each second on a terminal, elsewhere every 10 s."""

    def __init__(self, label: str = "") -> None:
        self._label = label
        self._terminal = sys.stderr.isatty()
        self._next = 0.0 if self._terminal else time.monotonic() + 10.0

    def __call__(self, tally: Tally) -> None:
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + (1.0 if self._terminal else 10.0)
        print(f"{self._label}{tally}", end="\r" if self._terminal else "\n", file=sys.stderr, flush=True)

    def done(self) -> None:
        """Leave the line."""
        if self._terminal:
            print(end="\x1b[2K\r", file=sys.stderr, flush=True)


def at_least(least: int) -> Callable[[str], int]:
    """A type for argparse: whole numbers from `least`."""

    def number(text: str) -> int:
        if not text.isdigit() or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {least}")
        return int(text)

    return number


def factor(text: str) -> float:
    """A type for argparse: numbers above 0."""
    try:
        return positive(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def arguments(given: Sequence[str] | None) -> argparse.Namespace:
    laws = "; ".join(f"{name}:{','.join(f'{k}={v}' for k, v in LAWS[name][1].items())}" for name in LAWS)
    parser = argparse.ArgumentParser(
        prog="python -m loadtest.replay",
        description="Replay a request stream against a memcached server: get, and on a miss set.",
        epilog=f"Laws and what they take, with their defaults: {laws}. Of the requests sent at once, gets of "
        "different keys come before the sets of those that were missing; --window 1 keeps the exact order. "
        "What the server holds is not flushed first.",
    )
    parser.add_argument("server", help="host:port")
    parser.add_argument(
        "trace", help="a file; a folder with CacheBench's pop.json and sizes.json; or a law (below)"
    )
    parser.add_argument(
        "--form", choices=FORMS, default="", help="of the file; looked up in text, needed for numbers"
    )
    parser.add_argument(
        "--requests",
        type=at_least(0),
        default=3_000_000,
        help="at most so many of them; 0: all (default: 3000000)",
    )
    parser.add_argument(
        "--window", type=at_least(1), default=WINDOW, help="requests sent at once, see below (16)"
    )
    parser.add_argument(
        "--keys", type=at_least(1), default=1_000_000, help="of a folder of distributions (1000000)"
    )
    parser.add_argument("--classic", action="store_true", help="ask by get, so that values cross the wire")
    sizes = parser.add_argument_group("bytes of a value", "without any: as the trace says, else 100")
    sizes.add_argument("--value-size", type=at_least(0), help="of every value")
    sizes.add_argument(
        "--cache-bytes", type=at_least(1), help="what the server may use; with --cache-keys, every"
    )
    sizes.add_argument(
        "--cache-keys", type=at_least(1), help="value is of the size with which so many would fill it"
    )
    sizes.add_argument("--size-factor", type=factor, default=1.0, help="times what the trace says")
    found = parser.parse_args(given)
    if (found.cache_bytes is None) != (found.cache_keys is None):
        parser.error("--cache-bytes and --cache-keys go together")
    if found.window > MOST_WINDOW:
        parser.error(f"--window: {MOST_WINDOW} at most")
    if found.cache_bytes is not None:
        found.value_size = fair_share(found.cache_bytes, found.cache_keys)
    return found


def main(given: Sequence[str] | None = None) -> int:
    """Run as a program; status 0 when the stream was replayed, 1 when something is wrong."""
    plan = arguments(given)
    meter = Meter()
    try:
        blocks = first(stream(plan.trace, plan.form, plan.keys), plan.requests)
        with Wire(plan.server) as wire:
            values = Values(plan.value_size, plan.size_factor)
            tally = replay(wire, blocks, values, window=plan.window, classic=plan.classic, progress=meter)
    except (TraceError, WireError) as error:
        meter.done()
        print(f"replay: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("replay: interrupted", file=sys.stderr)
        return 130
    meter.done()
    print(tally)
    return 0


if __name__ == "__main__":
    sys.exit(main())
