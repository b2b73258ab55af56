"""Sizes and durations as people write them: "512M", "0.5GiB", "30s", "5m".

Knows: the units. Must not know: what is measured in them. Everything here is a pure function.
"""

from __future__ import annotations

import re

SIZES = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}  # powers of 1024, as the kernel and Docker read them
TIMES = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}
MIB = 1 << 20

_SIZE = re.compile(r"([0-9]*\.?[0-9]+)\s*([kmgt]?)(?:i?b)?", re.IGNORECASE)
_TIME = re.compile(r"([0-9]*\.?[0-9]+)\s*([a-z]*)", re.IGNORECASE)


def size_of(text: object) -> int:
    """Bytes; ValueError, with what is allowed, for what is no size."""
    found = _SIZE.fullmatch(str(text).strip()) if not isinstance(text, bool) else None
    if found is None:
        raise ValueError(f"{text!r} is no size: say bytes, or such as 512M or 1.5G")
    return int(float(found[1]) * 1024 ** SIZES[found[2].lower()])


def seconds_of(text: object) -> float:
    """Seconds; ValueError, with what is allowed, for what is no duration."""
    found = _TIME.fullmatch(str(text).strip()) if not isinstance(text, bool) else None
    if found is None or found[2].lower() not in TIMES:
        raise ValueError(f"{text!r} is no duration: say seconds, or such as 250ms, 30s or 5m")
    return float(found[1]) * TIMES[found[2].lower()]


def size_text(nbytes: float | None) -> str:
    """Bytes for people, in binary units."""
    if nbytes is None:
        return "-"
    for power, unit in ((3, "GiB"), (2, "MiB"), (1, "KiB")):
        if abs(nbytes) >= 1024**power:
            return f"{nbytes / 1024**power:.1f} {unit}"
    return f"{nbytes:.0f} B"


def latency_text(us: float | None) -> str:
    """Microseconds for people."""
    if us is None:
        return "-"
    if us >= 1e6:
        return f"{us / 1e6:.2f} s"
    return f"{us / 1e3:.2f} ms" if us >= 1e3 else f"{us:.0f} us"


def count_text(number: float | None) -> str:
    """A count or a rate for people."""
    if number is None:
        return "-"
    if number >= 1e6:
        return f"{number / 1e6:.2f} M"
    return f"{number / 1e3:.1f} k" if number >= 1e4 else f"{number:.0f}"
