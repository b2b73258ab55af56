"""A run as logs of HdrHistogram, one interval a second, version 1.2 of the form. Needs hdrhistogram.

Knows: outcomes, the form of the log. Must not know: files. Values are microseconds, the maximum of a line is
in milliseconds, as HdrHistogram's own tools have it for a ratio of 1000. The warm-up is left out.
"""

from __future__ import annotations

from loadtest.extras import missing
from loadtest.outcome import Outcome

US_OF_MS = 1000.0


def check() -> None:
    """MissingExtra where there is no hdrhistogram."""
    try:
        import hdrh.histogram  # noqa: F401
    except ImportError:
        raise missing("hdrhistogram", "an HDR histogram log") from None


def text_of(outcome: Outcome, service: bool = False) -> str:
    """The log of the latency, or of the time from the actual send. MissingExtra."""
    check()
    kind = "service time, from the send" if service else "latency"
    if not service and outcome.open_loop:
        kind += ", from when the request was due"
    lines = [
        f"#[{outcome.label}: {kind}, in microseconds]",
        "#[Histogram log format version 1.2]",
        f"#[StartTime: {outcome.result.started:.3f} (seconds since epoch)]",
        f"#[BaseTime: {outcome.result.started:.3f} (seconds since epoch)]",
        '"StartTimestamp","Interval_Length","Interval_Max","Interval_Compressed_Histogram"',
    ]
    last = 0.0
    for second in outcome.result.seconds:
        histogram = second.service if service else second.latency
        if not second.warmup:
            payload = histogram.to_hdr().encode().decode("ascii")
            lines.append(f"{last:.3f},{second.at - last:.3f},{histogram.max() / US_OF_MS:.3f},{payload}")
        last = second.at
    return "\n".join(lines) + "\n"
