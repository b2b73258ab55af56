"""What a load gave: counts, histograms, seconds, and their form as JSON.

Knows: numbers and their names. Must not know: how they came about, how they are shown. Memory: a histogram
holds the counts that are not 0; a second of a run is some tens of KiB.

Histograms have the layout of HdrHistogram for 1 us to 60 s and 3 significant digits: counts below 2048 us a
microsecond wide, from there on 1024 for each doubling (hdrhistogram.org). Two of them add up without loss.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from loadtest.workload import Load, Workload, typed

DIGITS = 3
LOWEST, HIGHEST = 1, 60_000_000  # microseconds
HALF = 1024  # counts for each doubling
COUNTS = 17 * HALF  # the last one holds HIGHEST and what is above
PERCENTILES = (50.0, 90.0, 95.0, 99.0, 99.9, 99.99)


class Counters(NamedTuple):
    """What came of the requests. A multiget is one request and as many gets; fills are no requests."""

    requests: int = 0  # answered, whatever the answer
    gets: int = 0  # keys asked for and answered: hits + misses
    hits: int = 0
    misses: int = 0
    sets: int = 0  # of the workload, answered
    stored: int = 0  # sets and fills that the server took
    refused: int = 0  # sets and fills that it did not take: NOT_STORED, out of memory, too large
    fills: int = 0  # sets after misses, answered
    errors: int = 0  # error replies, and requests whose reply never came because the connection ended
    wrong: int = 0  # values that are not what was stored (with verify)
    reconnects: int = 0  # connections opened anew, for churn or because they ended
    bytes_in: int = 0
    bytes_out: int = 0

    def plus(self, other: Counters) -> Counters:
        return Counters(*map(sum, zip(self, other, strict=True)))

    @property
    def hit_ratio(self) -> float:
        """From 0 to 1; 0 where nothing was asked for."""
        return self.hits / self.gets if self.gets else 0.0


def value_at(index: int) -> int:
    """The lowest value, in microseconds, that is counted at `index`."""
    doubling = max(0, (index >> 10) - 1)
    return (index - (doubling << 10)) << doubling


def index_of(value: int) -> int:
    """Where a value, in microseconds, is counted."""
    value = max(0, min(HIGHEST, value))
    doubling = max(0, value.bit_length() - 11)
    return (doubling << 10) + (value >> doubling)


def width_at(index: int) -> int:
    """How many microseconds are counted at `index`."""
    return 1 << max(0, (index >> 10) - 1)


class Histogram:
    """Durations in whole microseconds. Not thread-safe."""

    __slots__ = ("_numbers", "_places")

    def __init__(self, pairs: Iterable[tuple[int, int]] = ()) -> None:
        """Take (index, count) pairs, in any order; ValueError where there is no such index."""
        found: dict[int, int] = {}
        for index, count in pairs:
            if not 0 <= index < COUNTS or count < 0:
                raise ValueError(f"no histogram counts {count} at {index}")
            if count:
                found[index] = found.get(index, 0) + count
        self._hold(found)

    def _hold(self, found: Mapping[int, int]) -> None:
        self._places = array("H", sorted(found))
        self._numbers = array("q", map(found.__getitem__, self._places))

    @classmethod
    def packed(cls, places: bytes, numbers: bytes) -> Histogram:
        """Take what the generator counted: ascending 16-bit indexes, and a 64-bit count for each."""
        new = cls()
        new._places.frombytes(places)
        new._numbers.frombytes(numbers)
        return new

    @property
    def counts(self) -> array[int]:
        """All counts by index, COUNTS of them."""
        full = array("q", bytes(8 * COUNTS))
        for index, count in self.pairs():
            full[index] = count
        return full

    def pairs(self) -> Iterator[tuple[int, int]]:
        """Yield (index, count) where the count is not 0, ascending."""
        return zip(self._places, self._numbers, strict=True)

    def add(self, other: Histogram) -> None:
        """Count what `other` has counted, too."""
        found = dict(self.pairs())
        for index, count in other.pairs():
            found[index] = found.get(index, 0) + count
        self._hold(found)

    def less(self, part: Histogram) -> Histogram:
        """What is counted here and not in `part`. ValueError where `part` is none of it."""
        counts = dict(part.pairs())
        rest = Histogram((index, count - counts.pop(index, 0)) for index, count in self.pairs())
        if counts:
            raise ValueError("a part counts what the whole does not")
        return rest

    def total(self) -> int:
        return sum(self._numbers)

    def percentile(self, share: float) -> int:
        """The microseconds that `share` percent (0 to 100) do not exceed, to 3 digits; 0 of nothing."""
        wanted = max(1, math.ceil(share / 100 * self.total() - 1e-9))
        seen = 0
        for index, count in self.pairs():
            seen += count
            if seen >= wanted:
                return value_at(index) + width_at(index) - 1
        return self.max()

    def mean(self) -> float:
        """Microseconds, each count taken at the middle of its width; 0 of nothing."""
        total = self.total()
        middles = (count * (value_at(index) + (width_at(index) - 1) / 2) for index, count in self.pairs())
        return sum(middles) / total if total else 0.0

    def min(self) -> int:
        """The least microseconds, to 3 digits; 0 of nothing."""
        return value_at(self._places[0]) if self._places else 0

    def max(self) -> int:
        """The most microseconds, to 3 digits; 0 of nothing."""
        return value_at(self._places[-1]) + width_at(self._places[-1]) - 1 if self._places else 0

    def to_hdr(self) -> Any:
        """Return an hdrh.histogram.HdrHistogram with the same counts; ImportError says what to install."""
        try:
            from hdrh.histogram import HdrHistogram
        except ImportError:
            raise ImportError(
                "HDR histograms need hdrhistogram: pip install 'cacheserver[loadtest]'"
            ) from None
        found = HdrHistogram(LOWEST, HIGHEST, DIGITS)
        for index, count in self.pairs():
            found.record_value(min(HIGHEST, value_at(index)), count)
        return found

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Histogram) and list(self.pairs()) == list(other.pairs())

    __hash__ = None  # type: ignore[assignment]


class Second(NamedTuple):
    """What came in about a second of the load, over all processes."""

    at: float  # seconds since the start of the load when it ended
    counters: Counters
    latency: Histogram  # open loop: from the intended time of sending; closed loop: from the sending
    service: Histogram  # from the sending
    backlog: int  # open loop: requests that were due and not yet sent
    warmup: bool


class Result(NamedTuple):
    """What a load gave. The totals leave the warm-up out."""

    workload: Workload
    load: Load
    address: str
    started: float  # Unix time of the first request, warm-up included
    seconds: tuple[Second, ...]
    total: Counters
    latency: Histogram
    service: Histogram
    sets: Histogram  # the part of the latency that is that of sets
    elapsed: float  # seconds after the warm-up
    complete: bool
    problem: str  # one line, "" where there is none

    @property
    def gets(self) -> Histogram:
        """The part of the latency that is that of gets."""
        return self.latency.less(self.sets)


def to_json(result: Result) -> dict[str, Any]:
    """A result as JSON has it: memtier_benchmark's keys, and beside them all that from_json() needs."""
    return {
        "configuration": {"server": result.address, **_plain(result.workload), **_plain(result.load)},
        "ALL STATS": _summary(result),
        "address": result.address,
        "started": result.started,
        "elapsed": result.elapsed,
        "complete": result.complete,
        "problem": result.problem,
        "workload": _plain(result.workload),
        "load": _plain(result.load),
        "total": result.total._asdict(),
        "latency": _sparse(result.latency),
        "service": _sparse(result.service),
        "sets": _sparse(result.sets),
        "seconds": [
            {
                "at": second.at,
                "counters": second.counters._asdict(),
                "latency": _sparse(second.latency),
                "service": _sparse(second.service),
                "backlog": second.backlog,
                "warmup": second.warmup,
            }
            for second in result.seconds
        ],
    }


def from_json(found: Mapping[str, Any]) -> Result:
    """Take a result from what to_json() gave. Raises ValueError, in one line, where it is something else."""
    try:
        result = Result(
            workload=typed(Workload, Workload(), found["workload"]),  # its files may be gone
            load=Load.parse(found["load"]),
            address=str(found["address"]),
            started=number(found["started"]),
            seconds=tuple(
                Second(
                    number(each["at"]),
                    _counters(each["counters"]),
                    _dense(each["latency"]),
                    _dense(each["service"]),
                    number(each["backlog"]),
                    bool(each["warmup"]),
                )
                for each in found["seconds"]
            ),
            total=_counters(found["total"]),
            latency=_dense(found["latency"]),
            service=_dense(found["service"]),
            sets=_dense(found["sets"]),
            elapsed=number(found["elapsed"]),
            complete=bool(found["complete"]),
            problem=str(found["problem"]),
        )
        result.latency.less(result.sets)  # raises where the sets are no part of the latency
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise ValueError(f"this is not a result of a load test: {error!r}") from None
    return result


def number(value: Any) -> Any:
    """The same, where it is a number. TypeError."""
    if type(value) not in (int, float) or not math.isfinite(value):
        raise TypeError(f"{value!r} is no number")
    return value


def _counters(found: Mapping[str, Any]) -> Counters:
    return Counters(**{name: number(count) for name, count in found.items()})


def _plain(fields: Workload | Load) -> dict[str, Any]:
    return dict(fields._asdict())


def _sparse(histogram: Histogram) -> list[tuple[int, int]]:
    return list(histogram.pairs())


def _dense(pairs: Iterable[tuple[int, int]]) -> Histogram:
    return Histogram((int(index), int(count)) for index, count in pairs)


def _summary(result: Result) -> dict[str, Any]:
    """memtier's table: rates a second, latencies in milliseconds, KB of 1024 bytes; without the warm-up."""
    total, elapsed = result.total, result.elapsed or 1.0
    requests = total.requests - total.sets
    end = result.started + sum(second.at for second in result.seconds[-1:])
    return {
        "Runtime": {
            "Start time": int((end - result.elapsed) * 1000),
            "Finish time": int(end * 1000),
            "Total duration": int(result.elapsed * 1000),
            "Time unit": "MILLISECONDS",
        },
        "Sets": {"Count": total.sets, "Ops/sec": total.sets / elapsed, **_latencies(result.sets)},
        "Gets": {
            "Count": requests,
            "Ops/sec": requests / elapsed,
            "Hits/sec": total.hits / elapsed,
            "Misses/sec": total.misses / elapsed,
            **_latencies(result.gets),
        },
        "Totals": {
            "Count": total.requests,
            "Ops/sec": total.requests / elapsed,
            "Hits/sec": total.hits / elapsed,
            "Misses/sec": total.misses / elapsed,
            "KB/sec": (total.bytes_in + total.bytes_out) / elapsed / 1024,
            "KB/sec RX": total.bytes_in / elapsed / 1024,
            "KB/sec TX": total.bytes_out / elapsed / 1024,
            **_latencies(result.latency),
            "Service": _latencies(result.service),
        },
    }


def _latencies(histogram: Histogram) -> dict[str, Any]:
    mean = histogram.mean() / 1000
    percentiles = {f"p{share:.2f}": histogram.percentile(share) / 1000 for share in PERCENTILES}
    return {
        "Latency": mean,
        "Average Latency": mean,
        "Min Latency": histogram.min() / 1000,
        "Max Latency": histogram.max() / 1000,
        "Percentile Latencies": percentiles,
    }
