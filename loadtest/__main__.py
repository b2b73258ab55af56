"""The program: `python -m loadtest`, installed as `cacheserver-loadtest`.

Knows: the order of things: options, the run, the table, the files, the exit status. Must not know: how any of
it is done. What goes wrong is one line on stderr; what was measured until then is kept.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import signal
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, TextIO

from loadtest import compare, headline, options, replay, report, report_html, report_plot, report_text
from loadtest import outcome as form
from loadtest import scenario as scenarios
from loadtest import slo as conditions
from loadtest.extras import MissingExtra
from loadtest.groups import NoGroup
from loadtest.headline import HeadlineError
from loadtest.live import Live
from loadtest.neighbour import NeighbourError
from loadtest.outcome import Outcome, OutcomeError
from loadtest.play import INTERRUPTED as INTERRUPTED_RUN
from loadtest.play import Run, RunError, play
from loadtest.report import Wanted
from loadtest.results import Result
from loadtest.scenario import ScenarioError
from loadtest.whose import find

NOT_MET, NOT_MEASURED, INTERRUPTED = 1, 2, 130
ERRORS = (
    ScenarioError,
    OutcomeError,
    NeighbourError,
    NoGroup,
    HeadlineError,
    RunError,
    MissingExtra,
    ValueError,
)


def main(given: Sequence[str] | None = None, run: Run | None = None) -> int:
    """Run as a program; the exit status. `run` makes the load, loadtest.run.run where none is given."""
    told = list(sys.argv[1:] if given is None else given)
    # One that the caller has closed is None.
    sys.stdout = sys.stdout or Path(os.devnull).open("w")  # noqa: SIM115
    sys.stderr = sys.stderr or Path(os.devnull).open("w")  # noqa: SIM115
    if told[:1] == ["replay"]:
        return replay.main(told[1:])
    try:
        found = options.parse(told)
        command = {"run": _run, "report": _report, "compare": _compare, "headline": _headline}[found.command]
        return command(found, run)
    except ERRORS as error:
        print(f"loadtest: {error}", file=sys.stderr)
        return NOT_MEASURED
    except BrokenPipeError:  # whoever read stdout has gone
        return NOT_MEASURED
    except KeyboardInterrupt:
        print("loadtest: interrupted", file=sys.stderr)
        return INTERRUPTED


def _engine(run: Run | None) -> Run:
    """What makes the load; its own error is told as the others are."""
    if run is not None:
        return run
    from loadtest import run as engine

    @functools.wraps(engine.run)
    def making(*arguments: Any, **named: Any) -> Result:
        try:
            result: Result = engine.run(*arguments, **named)
        except engine.LoadError as error:
            raise RunError(str(error)) from None
        return result

    return making


@contextlib.contextmanager
def stopping() -> Iterator[Callable[[], bool]]:
    """Give what tells whether Ctrl-C or SIGTERM came, or the terminal went, unless nohup keeps that away.

    The second one ends the program at once, but a terminal that goes may say so twice.
    """
    asked: list[int] = []

    def ask(number: int, _frame: FrameType | None) -> None:
        if asked and number != signal.SIGHUP:
            raise KeyboardInterrupt
        asked.append(number)

    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    before = {number: signal.signal(number, ask) for number in numbers}
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


# -- run --


def _run(found: Namespace, run: Run | None) -> int:
    content = scenarios.read(found.scenario) if found.scenario else {}
    workload, load = options.overrides(found)
    wanted = scenarios.build(content, workload=workload, load=load, events=found.at, slo=found.slo)
    files = _wanted(found, wanted.name)
    files.check()
    who = functools.partial(find, found.address, found.pid, found.cgroup, found.container)
    title = f"{found.label or found.address}: {wanted.name}"
    with stopping() as stop, Live(title, quiet=found.quiet) as live:
        outcome = play(
            found.address, wanted, _engine(run), find=who, watch=live, stop=stop, label=found.label
        )
    verdicts = conditions.judge(wanted.slo, outcome.figure)
    # The table first: it comes out even where no file can be written.
    problems = _table([outcome], verdicts, sys.stderr if files.json == report.STDOUT else sys.stdout)
    problems += report.write(files, outcome, verdicts)
    kept = not problems
    problems += [note.text for note in outcome.notes if note.kind == "failed"]
    _complain(problems)
    if kept and files.json not in (report.STDOUT, report.NONE):
        _say(f"results: {files.json}")
    return _status([outcome], verdicts, problems)


def _wanted(found: Namespace, name: str) -> Wanted:
    stem = f"loadtest-{name}-{time.strftime('%Y%m%d-%H%M%S')}"
    base = report.in_folder(found.report, stem) if found.report else Wanted(f"{stem}.json")
    return Wanted(
        found.json or base.json, found.html or base.html, found.png or base.png, found.hdr or base.hdr
    )


# -- report, compare --


def _report(found: Namespace, _run: Run | None) -> int:
    outcome = form.load(found.first)
    verdicts = conditions.judge(conditions.parse(found.slo) if found.slo else (), outcome.figure)
    problems = _table([outcome], verdicts, sys.stdout)
    problems += report.write(Wanted(html=found.html, png=found.png, hdr=found.hdr), outcome, verdicts)
    _complain(problems)
    return _status([], verdicts, problems)


def _compare(found: Namespace, _run: Run | None) -> int:
    outcomes = compare.load_all([found.first, *found.files])
    for line in compare.differences(outcomes):
        print(line)
    problems = _table(outcomes, [], sys.stdout)
    problems += report.save(report.pictures(Wanted(html=found.html, png=found.png), outcomes))
    _complain(problems)
    return _status([], [], problems)


# -- headline --


def _headline(found: Namespace, run: Run | None) -> int:
    plan = headline.Plan(
        found.limit,
        found.peak,
        found.seconds,
        found.rate,
        found.keys,
        found.value_size,
        found.ours,
        found.memcached,
    )
    if plan.peak >= plan.limit:
        raise HeadlineError("--peak is below --limit: the neighbour must fit beside the server")
    report_plot.check()
    folder = Path(found.out)
    outcomes: list[Outcome] = []
    problems: list[str] = []
    failed = ""
    with stopping() as stop:
        try:
            for outcome in headline.demonstrate(
                plan, _engine(run), watch=lambda label: Live(label, quiet=found.quiet), stop=stop
            ):
                outcomes.append(outcome)
                path = str(folder / f"server{len(outcomes)}.json")
                problems += report.save([(path, functools.partial(_bytes, outcome))])
        except ERRORS as error:
            failed = str(error)
    if outcomes:
        problems += _table(outcomes, [], sys.stdout)
        problems += report.save(_headline_files(folder, plan, outcomes))
    _complain([*problems, *([failed] if failed else [])])
    return NOT_MEASURED if failed else _status(outcomes, [], problems)


def _headline_files(
    folder: Path, plan: headline.Plan, outcomes: Sequence[Outcome]
) -> list[tuple[str, Callable[[], bytes]]]:
    """(path, content) of the figures, the picture and the page."""
    told = {"about": plan.about(), "plan": plan._asdict(), "figures": headline.figures(outcomes)}
    title = "A size that nobody chose"
    return [
        (str(folder / "headline.json"), lambda: json.dumps(told, indent=2).encode() + b"\n"),
        (str(folder / "headline.png"), lambda: report_plot.png(outcomes, names=("memory", "hit-ratio"))),
        (
            str(folder / "headline.html"),
            lambda: report_html.page(outcomes, title=title, preface=[plan.about()]).encode(),
        ),
    ]


def _bytes(outcome: Outcome) -> bytes:
    return form.text_of(outcome).encode()


# -- the end of all of them --


def _table(outcomes: Sequence[Outcome], verdicts: Sequence[conditions.Verdict], stream: TextIO) -> list[str]:
    """Print it; a stdout that takes nothing must not cost the files."""
    try:
        report_text.show(outcomes, verdicts, stream)
        stream.flush()
    except OSError as error:
        return [f"the table is not printed: {error.strerror or error}"]
    return []


def _complain(problems: Sequence[str]) -> None:
    for problem in problems:
        _say(f"loadtest: {problem}")


def _say(line: str) -> None:
    """To stderr, which may be a terminal that has gone."""
    with contextlib.suppress(OSError):
        print(line, file=sys.stderr)


def _status(outcomes: Sequence[Outcome], verdicts: list[conditions.Verdict], problems: Sequence[str]) -> int:
    if any(outcome.result.problem.startswith(INTERRUPTED_RUN) for outcome in outcomes):
        return INTERRUPTED
    status = conditions.status(verdicts)
    if status == NOT_MET:
        return NOT_MET
    whole = all(outcome.result.complete for outcome in outcomes) and not problems
    return status if whole else NOT_MEASURED


if __name__ == "__main__":
    sys.exit(main())
