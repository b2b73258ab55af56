"""A run as a picture: headroom and reserve, sizes, levels over time. Needs matplotlib.

Knows: samples. Must not know: how they came about.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cacheserver.pressure.simulate.plant import MIB
from cacheserver.pressure.simulate.run import OURS, Result

INCHES = (7.0, 5.0)
DOTS = 80  # an inch
LEVELS = ("none", "low", "medium", "critical")


def check() -> None:
    """ImportError, with what to do, where there is no matplotlib."""
    try:
        import matplotlib
    except ImportError:
        raise ImportError("pictures need matplotlib: pip install 'cacheserver[simulate]'") from None
    matplotlib.use("Agg")  # no display, no windows


def draw(results: Sequence[Result], folder: Path) -> Path:
    """Draw the runs of one scenario, ours in full, of the others headroom and size; the file's path.

    The results need samples. OSError where `folder` cannot be written.
    """
    check()
    from matplotlib import pyplot

    figure, (room, sizes, levels) = pyplot.subplots(
        3, 1, sharex=True, figsize=INCHES, height_ratios=(3, 3, 1), layout="constrained"
    )
    for result in results:
        main = result.law == OURS
        times = [sample.at for sample in result.samples]
        style = {"linewidth": 1.3 if main else 0.7, "alpha": 1.0 if main else 0.7}
        room.plot(times, [sample.headroom / MIB for sample in result.samples], label=result.law, **style)
        for number in range(len(result.own)):
            label = result.law if len(result.own) == 1 else f"{result.law} {number + 1}"
            sizes.plot(times, [sample.own[number] / MIB for sample in result.samples], label=label, **style)
        if main:
            room.plot(
                times,
                [sample.reserve / MIB for sample in result.samples],
                "k:",
                linewidth=0.8,
                label="reserve",
            )
            levels.step(times, [sample.level for sample in result.samples], where="post", linewidth=0.8)
    first = results[0]
    times = [sample.at for sample in first.samples]
    sizes.plot(times, [sample.limit / MIB for sample in first.samples], "k-", linewidth=0.8, label="limit")
    sizes.fill_between(times, [sample.demand / MIB for sample in first.samples], color="0.85", label="others")
    room.axhline(0.0, color="red", linewidth=0.8)
    room.set_ylabel("headroom, MiB")
    sizes.set_ylabel("size, MiB")
    levels.set_yticks(range(len(LEVELS)), LEVELS, fontsize="x-small")
    levels.set_xlabel("seconds")
    for axes in (room, sizes):
        axes.legend(fontsize="x-small", loc="upper right", ncols=2)
    room.set_title(f"{first.scenario}, limit {first.limit / MIB:.0f} MiB", fontsize="medium", loc="left")
    path = folder / f"{first.scenario.replace(' ', '-')}-{first.limit // MIB}m.png"
    folder.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=DOTS)
    pyplot.close(figure)
    return path
