"""The command: python -m cacheserver.pressure.simulate

Knows: the words of the command line. Must not know: how a run is made.
"""

from __future__ import annotations

import argparse
import sys
import textwrap
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from cacheserver.pressure.simulate import draw, replay
from cacheserver.pressure.simulate.bench import Job, run_all, seeds, size, tally
from cacheserver.pressure.simulate.laws import LAWS
from cacheserver.pressure.simulate.report import runs_table, show, tally_table
from cacheserver.pressure.simulate.run import OURS, Result, simulate
from cacheserver.pressure.simulate.scenarios import LIMIT, LONG, NAMED, drawn

SAMPLES = 1500  # of a picture
MANY = 40  # runs from which on each has no line of its own

ABOUT = """\
Try the control law on a made host: a clock that is a number, neighbours that do what a scenario says,
caches that fill and release. Deterministic: the same words give the same numbers. What runs as law "ours"
is the real monitor; the others are models of other systems' laws: osv, cachelib, clickhouse, ceph, dragonfly.
"""

MORE = (
    """\
what:
  NAME            one scenario:
"""
    + textwrap.fill(", ".join(NAMED), 100, initial_indent=" " * 18, subsequent_indent=" " * 18)
    + """
  all             each of them but the longest (quiet-host)
  random          one scenario for each of --seeds, added up
  bakeoff         the same under every law

examples:
  python -m cacheserver.pressure.simulate ramp --limit 1G --law ours,dragonfly --png pictures
  python -m cacheserver.pressure.simulate random --seeds 0-999
  python -m cacheserver.pressure.simulate bakeoff --seeds 0-99 --limit 128M
  python -m cacheserver.pressure.simulate --replay recording.jsonl --png pictures

columns:
  below 0         time with less than nothing left: the kernel would have killed somebody
  least           the smallest headroom, clean page cache counted as free
  used            what caches held, of what those would hold that know the future and leave 2 % free
  jump/reserve    the largest rise of others' demand within one reaction, of the smallest reserve
  back            from the neighbours' last change until the cache holds 97 % of what it may

exit status: 0; 1 when "ours" went below zero although the largest jump was within its reserve; 2 for words
that make no sense
"""
)


class Progress:
    """A line on standard error, where that is a terminal; once a second."""

    def __init__(self) -> None:
        self._start = self._last = time.monotonic()
        self._shown = False

    def __call__(self, done: int, of: int) -> None:
        now = time.monotonic()
        if not sys.stderr.isatty() or (now - self._last < 1.0 and done < of):
            return
        self._last = now
        left = (now - self._start) * (of - done) / done
        print(f"\r{done} of {of} runs, {left:.0f} s left ", end="", file=sys.stderr, flush=True)
        self._shown = True

    def done(self) -> None:
        """Make room for what comes next."""
        if self._shown:
            print(file=sys.stderr)


def arguments(given: Sequence[str] | None) -> argparse.Namespace:
    """The command line, checked."""
    parser = argparse.ArgumentParser(
        prog="python -m cacheserver.pressure.simulate",
        description=ABOUT,
        epilog=MORE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("what", nargs="?", default="all", help='see below (default: "all")')
    parser.add_argument("--seeds", default="0-99", help="such as 0-999 or 3,7 (default: 0-99)")
    parser.add_argument(
        "--law", help="laws, with commas between; all for all (default: ours; all in bakeoff)"
    )
    parser.add_argument(
        "--limit", type=_checked(size), help="such as 256M (default: 256M; random: the seed's own)"
    )
    parser.add_argument("--replay", type=Path, metavar="FILE", help="a recorded timeline instead of `what`")
    parser.add_argument("--png", type=Path, metavar="DIR", help="draw each scenario into this folder")
    parser.add_argument("--workers", type=int, default=0, help="processes (default: one for each processor)")
    found = parser.parse_args(given)
    try:
        found.seed_words, found.seeds = found.seeds, seeds(found.seeds)
    except ValueError as error:
        parser.error(f"--seeds: {error}")
    if found.what not in ("all", "random", "bakeoff", *NAMED):
        parser.error(
            f"no scenario is called {found.what!r}: say one of {', '.join(NAMED)}, all, random, bakeoff"
        )
    words = found.law or ("all" if found.what == "bakeoff" else OURS)
    found.laws = [OURS, *LAWS] if words == "all" else words.split(",")
    for law in found.laws:
        if law != OURS and law not in LAWS:
            parser.error(f"no law is called {law!r}: say one of {OURS}, {', '.join(LAWS)}, all")
    return found


def _checked(convert: Callable[[str], Any]) -> Callable[[str], Any]:
    """`convert`, its complaint in argparse's terms."""

    def checked(words: str) -> Any:
        try:
            return convert(words)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return checked


def _simulated(plan: argparse.Namespace) -> list[Result]:
    """Run what was asked for, and show it."""
    many = plan.what in ("random", "bakeoff")
    limit = plan.limit or (0 if many else LIMIT)
    names = _names(plan)
    progress = Progress()
    results = run_all([Job(name, law, limit) for name in names for law in plan.laws], progress, plan.workers)
    progress.done()
    if len(results) < MANY:
        show("runs", *runs_table(results))
    if many:
        tallies = tally(results)
        show(f"{len(names)} random scenarios, seeds {plan.seed_words}", *tally_table(tallies))
        for each in tallies:
            if each.law == OURS and each.names:
                print("ours below zero in:", ", ".join(each.names))
    return results


def _names(plan: argparse.Namespace) -> list[str]:
    if plan.what in ("random", "bakeoff"):
        return [str(seed) for seed in plan.seeds]
    return [name for name in NAMED if name not in LONG] if plan.what == "all" else [plan.what]


def _replayed(plan: argparse.Namespace) -> list[Result]:
    """Replay a recording under each law, and show what happens."""
    scenario = replay.load(plan.replay)
    results = [simulate(scenario, law) for law in plan.laws]
    show("runs", *runs_table(results))
    return results


def _pictures(plan: argparse.Namespace) -> None:
    """Draw every scenario that was run."""
    if plan.replay:
        scenarios = [replay.load(plan.replay)]
    elif plan.what in ("random", "bakeoff"):
        scenarios = [drawn(seed, plan.limit or 0) for seed in plan.seeds]
    else:
        scenarios = [NAMED[name](plan.limit or LIMIT) for name in _names(plan)]
    for scenario in scenarios:
        every = scenario.seconds / SAMPLES
        print(draw.draw([simulate(scenario, law, every) for law in plan.laws], plan.png))


def main(given: Sequence[str] | None = None) -> int:
    """Run as a program; the exit status."""
    plan = arguments(given)
    try:
        if plan.png:
            draw.check()
        results = _replayed(plan) if plan.replay else _simulated(plan)
        if plan.png:
            _pictures(plan)
    except (replay.ReplayError, ImportError, OSError) as error:
        print(f"simulate: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("simulate: interrupted", file=sys.stderr)
        return 130
    lost = [one for one in results if one.law == OURS and one.feasible and not one.survived]
    for one in lost:
        print(f"simulate: {one.scenario}: below zero with a jump within the reserve", file=sys.stderr)
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
