"""What is asked of a server, and how hard: the words of a workload and of a load.

Knows: names, ranges, defaults. Must not know: servers, sockets, how requests are made. Both kinds are values:
they can be compared, printed, and sent to other processes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from loadtest.sizes import LARGEST_KEY, LARGEST_VALUE, table

PROTOCOLS = ("text", "meta", "resp")
MOST_KEYS = 1 << 48
MOST_CONNECTIONS = 65_000
LONGEST = 30 * 86_400  # seconds; of TTLs because memcached takes larger numbers for dates

T = TypeVar("T", bound=tuple[Any, ...])


class Workload(NamedTuple):
    """What is asked. Size laws: see loadtest.sizes. A key's size and its value's bytes are always the same.

    popularity  uniform | zipf:S, rank r in proportion to r ** -S | hot:SHARE_OF_KEYS:SHARE_OF_REQUESTS | scan
    ttl         none | fixed:SECONDS | range:A-B, drawn anew for each set
    trace       a file in a form of loadtest.traces, a folder of CacheBench's distributions, or a law of
                loadtest.streams ("int32:PATH" where the form cannot be guessed): the keys in their order,
                and the sizes where it has them; the load ends with it
    """

    protocol: str = "text"  # text | meta | resp
    get_share: float = 0.9  # of the requests; the others are sets
    multiget: int = 1  # keys of a get
    keys: int = 100_000
    key_prefix: str = "k"
    key_size: str = "fixed:16"  # bytes, prefix included; longer where the keys would not differ
    popularity: str = "zipf:0.99"
    value_size: str = "fixed:100"  # bytes
    ttl: str = "none"
    fill: bool = False  # read-through: what a get misses is set
    backend_ms: float = 0.0  # between a miss and its set
    verify: bool = False  # every byte of every value
    trace: str = ""

    @classmethod
    def parse(cls, words: Mapping[str, Any]) -> Workload:
        """Take a workload from names and values, as TOML has them. Raises ValueError, in one line."""
        found = typed(cls, cls(), words)
        _choice("protocol", found.protocol, PROTOCOLS)
        _within("get_share", found.get_share, 0, 1)
        _within("multiget", found.multiget, 1, 1000)
        _within("keys", found.keys, 1, MOST_KEYS)
        _within("backend_ms", found.backend_ms, 0, 60_000)
        parse_popularity(found.popularity)
        parse_ttl(found.ttl)
        if not all("!" <= sign <= "~" for sign in found.key_prefix) or len(found.key_prefix) > 200:
            raise ValueError(f"key_prefix: {found.key_prefix!r} is not up to 200 printable ASCII signs")
        shortest = len(found.key_prefix) + len(f"{found.keys - 1:x}")
        for name, law, largest in (
            ("key_size", found.key_size, LARGEST_KEY),
            ("value_size", found.value_size, LARGEST_VALUE),
        ):
            try:
                sizes = table(law, largest)
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from None
            if name == "key_size" and max(sizes) < shortest:
                raise ValueError(
                    f"key_size: {law} is too short for {found.keys} keys: say fixed:{shortest} or more"
                )
        if found.trace and ":" not in found.trace and not Path(found.trace).exists():
            raise ValueError(f"trace: there is no file {found.trace}")
        return found


class Load(NamedTuple):
    """How hard. Without a rate the loop is closed: a connection sends when one of its replies has come."""

    connections: int = 50  # over all processes
    depth: int = 1  # requests in flight on each
    rate: float = 0.0  # requests a second over all processes, evenly spaced in each: open loop; 0: closed
    seconds: float = 10.0  # after the warm-up
    warmup: float = 0.0  # seconds before, left out of the totals
    processes: int = 1
    seed: int = 1
    churn: int = 0  # requests after which a connection is closed and opened anew; 0: never
    steps: tuple[
        tuple[float, float], ...
    ] = ()  # seconds from the start (warm-up included), rate or connections
    patience: float = 1.0  # seconds without any connection after which the load ends

    def value_at(self, at: float) -> float:
        """The rate, or in a closed loop the connections, that is asked for `at` seconds after the start."""
        return [self.rate or self.connections, *(value for start, value in self.steps if start <= at)][-1]

    @classmethod
    def parse(cls, words: Mapping[str, Any]) -> Load:
        """Take a load from names and values, as TOML has them. Raises ValueError, in one line."""
        words = dict(words)
        steps = parse_steps(words.pop("steps", ()))
        found = typed(cls, cls(), words)._replace(steps=steps)
        _within("connections", found.connections, 1, MOST_CONNECTIONS)
        _within("depth", found.depth, 1, 4096)
        _within("rate", found.rate, 0, 1e9)
        _within("seconds", found.seconds, 0.01, LONGEST)
        _within("warmup", found.warmup, 0, LONGEST)
        _within("processes", found.processes, 1, 1024)
        _within("seed", found.seed, 0, 1 << 62)
        _within("churn", found.churn, 0, 1 << 62)
        _within("patience", found.patience, 0, LONGEST)
        for at, value in steps:
            _within("steps: seconds", at, 0, LONGEST)
            if found.rate:
                _within("steps: rate", value, 0.001, 1e9)
            else:
                _within("steps: connections", value, 1, MOST_CONNECTIONS)
        if [at for at, _ in steps] != sorted(at for at, _ in steps):
            raise ValueError("steps: the seconds do not ascend")
        return found


def parse_popularity(words: str) -> tuple[str, float, float]:
    """Read a popularity: its name, and the one or two numbers it has (0 where not). Raises ValueError."""
    name, *rest = words.split(":")
    try:
        numbers = [float(word) for word in rest]
    except ValueError:
        numbers = [math.nan]
    if name in ("uniform", "scan") and not rest:
        return name, 0.0, 0.0
    if name == "zipf" and len(numbers) == 1 and 0 < numbers[0] <= 20:
        return name, numbers[0], 0.0
    if name == "hot" and len(numbers) == 2 and 0 < numbers[0] <= 1 and 0 <= numbers[1] <= 1:
        return name, numbers[0], numbers[1]
    raise ValueError(
        f"popularity: {words!r} is none of uniform, zipf:S (above 0, to 20), hot:SHARE:SHARE (0 to 1), scan"
    )


def parse_ttl(words: str) -> tuple[int, int]:
    """Read a TTL: its least and its greatest, in seconds; (0, 0) where there is none. Raises ValueError."""
    name, _, rest = words.partition(":")
    if words == "none":
        return 0, 0
    low, _, high = rest.partition("-") if name == "range" else (rest, "", rest)
    if name in ("fixed", "range") and low.isdigit() and high.isdigit():
        first, last = int(low), int(high)
        if 1 <= first <= last <= LONGEST:
            return first, last
    raise ValueError(f"ttl: {words!r} is none of none, fixed:S, range:A-B (1 to {LONGEST} seconds)")


def parse_steps(words: Any) -> tuple[tuple[float, float], ...]:
    """Read a staircase, [[seconds, value], ...]. Raises ValueError."""
    try:
        return tuple((float(at), float(value)) for at, value in words)
    except (TypeError, ValueError):
        raise ValueError(f"steps: {words!r} is not a list of [seconds, value]") from None


def typed(cls: type[T], defaults: T, words: Mapping[str, Any]) -> T:
    """Make `cls` of the defaults and the words, whose types are those of the defaults."""
    known = defaults._asdict()  # type: ignore[attr-defined]
    for name, value in words.items():
        if name not in known:
            raise ValueError(f"{name}: no such field: say one of {', '.join(known)}")
        kind = type(known[name])
        if kind is float and type(value) is int:
            value = float(value)
        if type(value) is not kind:
            names = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}
            raise ValueError(f"{name}: {value!r} is not {names[kind]}")
        known[name] = value
    return cls(**known)


def _within(name: str, value: float, least: float, most: float) -> None:
    if not least <= value <= most:
        raise ValueError(f"{name}: {value:g} is not from {least:g} to {most:g}")


def _choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{name}: {value!r} is none of {', '.join(choices)}")
