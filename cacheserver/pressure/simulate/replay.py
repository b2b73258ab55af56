"""A recorded timeline as a scenario: what the neighbours did then, before the law of today.

Knows: the recording's format. Must not know: laws, the monitor.

One JSON object a line, one line a tick:

    {"t": seconds, "readings": [{"name", "limit", "usage", "reclaimable", "stall", "throttles", "ooms",
     "stale"}], "ledger": [own, untouched, returning], "decision": {...}}

Sizes in bytes. What others took is a reading's usage less its reclaimable page cache and less the caches'
own; between two lines it is taken to have changed evenly.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path as File
from typing import Any

from cacheserver.pressure.simulate.plant import GIB, MIB, Bound, CacheKind, Path
from cacheserver.pressure.simulate.scenarios import Scenario

FILL = 300 * MIB  # bytes a second with which the cache is filled as far as granted
RELEASE = 8 * GIB


class ReplayError(Exception):
    """A recording that cannot be read; one line says what is wrong with it."""


def load(file: File) -> Scenario:
    """The scenario that the recording in `file` tells. Raises ReplayError."""
    try:
        with file.open(encoding="utf-8") as lines:
            return build(file.stem, lines)
    except (OSError, UnicodeDecodeError) as error:
        raise ReplayError(f"{file}: {error}") from None


def build(name: str, lines: Iterable[str]) -> Scenario:
    """The scenario that these lines tell. A bound is unlimited while it was not recorded. Raises ReplayError.

    An unfinished last line is left out: whoever recorded it may have been killed while writing.
    """
    rows: dict[str, list[tuple[float, dict[str, Any]]]] = {}
    began, last, start, broken = -1.0, 0.0, 0, ""
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        if broken:
            raise ReplayError(broken)
        try:
            tick = json.loads(line)
            at = float(tick["t"])
            own = int(tick["ledger"][0])
            returning = int(tick["ledger"][2]) if len(tick["ledger"]) > 2 else 0
            readings = [dict(each) for each in tick["readings"]]
            began, start = (at, own) if began < 0 else (began, start)
            at = max(at - began, last)
            last = at
            for each in readings:
                each["demand"] = max(0, each["usage"] - each.get("reclaimable", 0) - own - returning)
                if not each.get("stale"):
                    rows.setdefault(str(each["name"]), []).append((at, each))
        except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
            broken = f"line {number} is no tick of a recording: {type(error).__name__}: {error}"
    if not rows:
        raise ReplayError(broken or "no readings in the recording")
    bounds = tuple(_bound(each, seen) for each, seen in rows.items())
    kind = CacheKind(fill=FILL, release=RELEASE, start=start)
    return Scenario(name, last, bounds, ((kind,),))


def _bound(name: str, seen: list[tuple[float, dict[str, Any]]]) -> Bound:
    def path(key: str, stepped: bool = False) -> Path:
        points: list[tuple[float, float]] = []
        for at, reading in seen:
            value = float(reading.get(key, 0))
            if stepped and points:
                points.append((at, points[-1][1]))
            points.append((at, value))
        return Path(points)

    return Bound(
        name, path("limit", True), path("demand"), path("reclaimable"), path("stall"),
        path("throttles", True), path("ooms", True),
    )  # fmt: skip
