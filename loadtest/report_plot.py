"""Runs as charts. Needs matplotlib.

Knows: outcomes, axes. Must not know: the page they stand on. A chart that has nothing to show is left out.
Not one window is opened: figures are made without pyplot, so any thread may.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Sequence
from textwrap import fill
from typing import Any, NamedTuple

from loadtest.extras import missing
from loadtest.outcome import Outcome
from loadtest.report_series import backlog, hit_ratio, hog, percentile, rate, rates_of, seen, tail
from loadtest.timeline import LEVELS
from loadtest.units import MIB

INCHES = (9.0, 2.6)  # of one chart
DOTS = 100  # an inch
LEGEND_COLUMNS = 24  # of text that fit beside a chart
COLOURS = ("#1f5fa8", "#d1662a", "#2e8b57", "#8a4fa3", "#a8891f", "#555555")
KILL, EVENT, LIMIT, HOG = "#c00000", "#777777", "#000000", "#cfcfcf"
NOTE_KINDS = ("kill", "limit", "server")  # the hog has its own area

COUNTED = ("a second", "requests")  # units of numbers that become long

Axes = Any  # of matplotlib, which need not be installed
Draw = Callable[[Axes, Sequence[Outcome]], bool]


class Chart(NamedTuple):
    """A chart by name; `draw` tells whether there was something to show."""

    name: str
    title: str
    unit: str
    draw: Draw
    over_time: bool = True


def check() -> None:
    """MissingExtra where there is no matplotlib."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise missing("matplotlib", "a picture") from None


def png(outcomes: Sequence[Outcome], title: str = "", names: Iterable[str] = ()) -> bytes:
    """All charts, or those of `names`, below each other, as a PNG. MissingExtra."""
    figure = _figure()
    wanted = set(names) or {chart.name for chart in CHARTS}
    used = [chart for chart in CHARTS if chart.name in wanted and _has(chart, outcomes)]
    figure.set_size_inches(INCHES[0], INCHES[1] * max(1, len(used)))
    for number, chart in enumerate(used):
        _fill(figure.add_subplot(len(used), 1, number + 1), chart, outcomes)
    _margins(figure, max(1, len(used)))
    if title:
        figure.suptitle(title, fontsize="medium")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DOTS)
    return buffer.getvalue()


def svgs(outcomes: Sequence[Outcome]) -> dict[str, tuple[str, str]]:
    """(title, SVG element) of each chart by name. MissingExtra."""
    check()
    import matplotlib

    found = {}
    for chart in CHARTS:
        if not _has(chart, outcomes):
            continue
        figure = _figure()
        figure.set_size_inches(*INCHES)
        _fill(figure.add_subplot(), chart, outcomes, title=False)
        _margins(figure, 1)
        buffer = io.StringIO()
        # Text stays text; the salt keeps the names within two pictures of a page apart.
        with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": chart.name}):
            figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
        text = buffer.getvalue()
        found[chart.name] = (f"{chart.title}, {chart.unit}", _own_ids(text[text.index("<svg") :], chart.name))
    return found


def _own_ids(svg: str, name: str) -> str:
    """The same picture with names that no other picture of the page has: matplotlib numbers some from 1."""
    for word in ('id="', "url(#", 'href="#'):
        svg = svg.replace(word, f"{word}{name}-")
    return svg


def _figure() -> Any:
    check()
    from matplotlib.figure import Figure

    return Figure()


def _margins(figure: Any, rows: int) -> None:
    """The same for all charts, so that their times stand below each other; at the right is the legend."""
    inch = 1.0 / (INCHES[1] * rows)
    figure.subplots_adjust(
        left=0.095, right=0.8, bottom=0.5 * inch, top=1.0 - (0.45 if rows > 1 else 0.1) * inch, hspace=0.45
    )


def _has(chart: Chart, outcomes: Sequence[Outcome]) -> bool:
    return chart.draw(_figure().add_subplot(), outcomes)


def _fill(axes: Axes, chart: Chart, outcomes: Sequence[Outcome], title: bool = True) -> None:
    chart.draw(axes, outcomes)
    if title:
        axes.set_title(chart.title, fontsize="medium", loc="left")
    if chart.unit != "level":
        axes.set_ylabel(chart.unit)
    if chart.unit in COUNTED:
        axes.yaxis.set_major_formatter(lambda value, _place: count_tick(value))
    axes.grid(alpha=0.25)
    if chart.over_time:
        axes.set_xlabel("seconds since the start of the load")
        first = outcomes[0].result
        axes.set_xlim(
            0, max(1.0, *(second.at for one in outcomes for second in one.result.seconds[-1:]), 1.0)
        )
        if first.load.warmup:
            axes.axvspan(0, first.load.warmup, color="#f2efe2", zorder=0, label="warm-up")
        _mark(axes, outcomes)
    handles, labels = axes.get_legend_handles_labels()
    if labels:
        labels = [fill(label, LEGEND_COLUMNS) for label in labels]
        axes.legend(handles, labels, fontsize="x-small", loc="upper left", bbox_to_anchor=(1.0, 1.0))


def count_tick(value: float) -> str:
    """A number short enough for the margin."""
    for size, unit in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= 10 * size:
            return f"{value / size:g} {unit}"
    return f"{value:g}"


def _mark(axes: Axes, outcomes: Sequence[Outcome]) -> None:
    """Mark what happened beside the load."""
    for number, outcome in enumerate(outcomes):
        for note in outcome.notes:
            if note.at < 0 or note.kind not in NOTE_KINDS or (note.kind != "kill" and len(outcomes) > 1):
                continue
            if note.kind == "kill":
                label: str | None = note.text if len(outcomes) == 1 else f"{outcome.label}: {note.text}"
                if label in axes.get_legend_handles_labels()[1]:
                    label = None
                colour = KILL if len(outcomes) == 1 else _colour(number)
                axes.axvline(note.at, color=colour, linewidth=1.4, linestyle="--", label=label)
            else:
                axes.axvline(note.at, color=EVENT, linewidth=0.8, linestyle=":")


def _colour(number: int) -> str:
    return COLOURS[number % len(COLOURS)]


# -- the charts --


def _lines(axes: Axes, outcomes: Sequence[Outcome], series: Callable[[Outcome], Any], **style: Any) -> bool:
    """One line for each run; whether there was any."""
    drawn = False
    for number, outcome in enumerate(outcomes):
        times, values = series(outcome)
        if times:
            label = outcome.label if len(outcomes) > 1 else None
            axes.plot(times, values, color=_colour(number), linewidth=1.3, label=label, **style)
            drawn = True
    return drawn


def _from_zero(axes: Axes) -> None:
    """A scale from 0 on, which is no magnifying glass where there is nothing but zeros."""
    axes.set_ylim(bottom=0, top=max(1.0, axes.get_ylim()[1]))


def _rate(axes: Axes, outcomes: Sequence[Outcome]) -> bool:
    drawn = _lines(axes, outcomes, rate)
    _from_zero(axes)
    return drawn


def _hit(axes: Axes, outcomes: Sequence[Outcome]) -> bool:
    drawn = _lines(axes, outcomes, hit_ratio)
    axes.set_ylim(0.0, 1.02)
    return drawn


def _latency(axes: Axes, outcomes: Sequence[Outcome]) -> bool:
    shares = (50.0, 99.0, 99.9) if len(outcomes) == 1 else (99.0,)
    drawn = False
    for number, outcome in enumerate(outcomes):
        for place, share in enumerate(shares):
            times, values = percentile(outcome, share)
            if times:
                name = f"p{share:g}" if len(outcomes) == 1 else f"{outcome.label} p{share:g}"
                axes.plot(times, values, color=_colour(number + place), linewidth=1.2, label=name)
                drawn = True
            if outcome.open_loop and share == 99.0:
                times, values = percentile(outcome, share, service=True)
                label = "service p99" if len(outcomes) == 1 else None
                axes.plot(
                    times, values, color=_colour(number + place), linewidth=0.8, linestyle=":", label=label
                )
    _log(axes)
    return drawn


def _log(axes: Axes) -> None:
    """A logarithmic scale of values, labelled as people write numbers."""
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter("{x:g}")


def _memory(axes: Axes, outcomes: Sequence[Outcome]) -> bool:
    drawn = False
    for number, outcome in enumerate(outcomes):
        alone = len(outcomes) == 1
        label: str | None
        times, values = hog(outcome)
        if number == 0 and any(values):
            axes.fill_between(times, values, color=HOG, linewidth=0, label="hog", step="post")
        for field, word, colour, style in (
            ("usage", "used in the cgroup", COLOURS[0], "-"),
            ("rss", "server's RSS", COLOURS[1], "-"),
            ("cache", "store", COLOURS[2], ":"),
            ("limit", "limit", LIMIT, "-"),
        ):
            if not alone and field not in ("rss", "limit"):
                continue
            if not alone and field == "limit" and number:
                continue
            label = word
            if not alone and field == "rss":
                label, colour = f"{outcome.label}, RSS", _colour(number)
            times, values = seen(outcome, field, MIB, gaps=True)
            if times:
                axes.plot(times, values, color=colour, linestyle=style, linewidth=1.2, label=label)
                drawn = True
    axes.set_ylim(bottom=0)
    return drawn


def _evictions(axes: Axes, outcomes: Sequence[Outcome]) -> bool:
    drawn = _lines(axes, outcomes, lambda one: rates_of(one, "evictions"))
    _from_zero(axes)
    return drawn


def _shrinks(axes: Axes, outcomes: Sequence[Outcome]) -> bool:
    drawn = _lines(axes, outcomes, lambda one: rates_of(one, "shrinks"))
    _from_zero(axes)
    return drawn


def _level(axes: Axes, outcomes: Sequence[Outcome]) -> bool:
    def numbers(outcome: Outcome) -> tuple[list[float], list[int]]:
        times, words = seen(outcome, "level")
        return times, [LEVELS.index(word) if word in LEVELS else 0 for word in words]

    drawn = _lines(axes, outcomes, numbers, drawstyle="steps-post")
    axes.set_yticks(range(len(LEVELS)), LEVELS, fontsize="small")
    axes.set_ylim(-0.2, len(LEVELS) - 0.8)
    return drawn


def _stall(axes: Axes, outcomes: Sequence[Outcome]) -> bool:
    def share(outcome: Outcome) -> tuple[list[float], list[float]]:
        times, values = rates_of(outcome, "stalled")
        return times, [value / 1e4 for value in values]  # us a second to percent

    drawn = _lines(axes, outcomes, share)
    _from_zero(axes)
    return drawn


def _backlog(axes: Axes, outcomes: Sequence[Outcome]) -> bool:
    drawn = _lines(axes, [one for one in outcomes if one.open_loop], backlog)
    _from_zero(axes)
    return drawn


def _tail(axes: Axes, outcomes: Sequence[Outcome]) -> bool:
    drawn = False
    for number, outcome in enumerate(outcomes):
        colour = _colour(number)
        name = f"{outcome.label} " if len(outcomes) > 1 else ""
        for histogram, style, word in (
            (outcome.result.latency, "-", "latency"),
            (outcome.result.service, ":", "service time"),
        ):
            if word == "service time" and not outcome.open_loop:
                continue
            places, values = tail(histogram)
            if places:
                axes.plot(places, values, color=colour, linestyle=style, linewidth=1.3, label=f"{name}{word}")
                drawn = True
    axes.set_xscale("log")
    _log(axes)
    axes.set_xticks(
        [1, 10, 100, 1000, 10_000, 100_000], ["0", "90 %", "99 %", "99.9 %", "99.99 %", "99.999 %"]
    )
    axes.set_xlabel("share of the requests that were answered within")
    return drawn


CHARTS = (
    Chart("memory", "Memory", "MiB", _memory),
    Chart("hit-ratio", "Hit ratio", "hits of gets", _hit),
    Chart("rate", "Requests", "a second", _rate),
    Chart("latency", "Latency", "ms", _latency),
    Chart("backlog", "Requests due and not yet sent", "requests", _backlog),
    Chart("level", "Pressure as the server tells it", "level", _level),
    Chart("evictions", "Evictions", "a second", _evictions),
    Chart("shrinks", "Shrinks", "a second", _shrinks),
    Chart("stall", "Tasks waiting for memory (PSI, some)", "percent of time", _stall),
    Chart("tail", "Latency by share of requests", "ms", _tail, over_time=False),
)
