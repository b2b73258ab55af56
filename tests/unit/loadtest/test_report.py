"""What a run leaves behind: the table, the files, and what happens when one of them cannot be written."""

from __future__ import annotations

import builtins
import io
import json
import re
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from loadtest import outcome as form
from loadtest import report, report_hdr, report_html, report_plot, report_text, slo
from loadtest.extras import MissingExtra
from loadtest.outcome import OutcomeError, kill_notes
from loadtest.report import Wanted
from loadtest.report_series import hit_ratio, hog, rate, rates_of, seen, tail
from loadtest.units import MIB
from loadtest.workload import Load
from tests.requirements import missing
from tests.unit.loadtest import made


@pytest.fixture
def drawing() -> None:
    try:
        report_plot.check()
        report_hdr.check()
    except MissingExtra as error:
        missing(str(error))


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without the extra's packages."""
    real = builtins.__import__

    def refuse(name: str, *rest: Any, **named: Any) -> Any:
        if name.split(".")[0] in ("matplotlib", "hdrh", "rich", "numpy"):
            raise ImportError(name)
        return real(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", refuse)


# -- JSON --


def test_a_run_comes_back_from_its_file_as_it_was(tmp_path: Path) -> None:
    run = made.outcome(kill_at=14.0, rate=1000.0)
    verdicts = slo.judge(slo.parse("hit>0.99,kills=0"), run.figure)
    path = tmp_path / "run.json"
    assert report.write(Wanted(json=str(path)), run, verdicts) == []
    assert form.load(path) == run
    told = json.loads(path.read_text())
    assert told["kills"] == 1
    assert told["ALL STATS"]["Totals"]["Ops/sec"] == 1000
    assert [each["verdict"] for each in told["slo"]] == ["not met", "not met"]
    assert told["timeline"][0]["at"] == -1.0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[]", "not a result of a load test"),
        ("{}", "not a result of a load test"),
        ("{", "Expecting"),
        (None, "cannot be read: No such file"),
    ],
)
def test_a_file_of_something_else_is_said_in_one_line(tmp_path: Path, text: str | None, said: str) -> None:
    path = tmp_path / "other.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(OutcomeError, match=said) as caught:
        form.load(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "where",
    [
        ("elapsed",),
        ("started",),
        ("load", "rate"),
        ("workload", "keys"),
        ("total", "hits"),
        ("latency", 0, 1),
        ("seconds", 0, "at"),
        ("seconds", 0, "counters", "requests"),
        ("timeline", 0, "at"),
        ("timeline", 0, "rss"),
        ("events", 0, "at"),
    ],
)
@pytest.mark.parametrize("wrong", ["many", [], float("inf")])
def test_a_file_whose_numbers_are_none_is_refused_as_a_whole(
    tmp_path: Path, where: tuple[str | int, ...], wrong: object
) -> None:
    told: Any = form.to_json(made.outcome())
    told["latency"] = [list(pair) for pair in told["latency"]]
    place = told
    for word in where[:-1]:
        place = place[word]
    place[where[-1]] = wrong
    (tmp_path / "bad").write_text(json.dumps(told))
    with pytest.raises(OutcomeError, match="not a result of a load test"):
        form.load(tmp_path / "bad")


@pytest.mark.parametrize(
    ("load", "said"),
    [
        (Load(connections=5, depth=3), "closed loop, 5 connections, 3 in flight on each"),
        (Load(connections=5, steps=((1, 80),)), "closed loop, 5 to 80 connections, 1 in flight on each"),
        (Load(rate=1e6), "open loop, 1000000 requests/s over 50 connections"),
        (
            Load(rate=5e3, steps=((0, 5e3), (9, 12e4), (10, 1e3))),
            "open loop, 1000 to 120000 requests/s over 50 connections",
        ),
    ],
)
def test_a_load_is_told_with_its_staircase(load: Load, said: str) -> None:
    run = made.outcome()
    assert report_text.load_text(run._replace(result=run.result._replace(load=load))) == said


def test_figures_that_were_not_measured_are_none() -> None:
    run = made.outcome()
    assert run.figure("hit") == pytest.approx(run.result.total.hits / run.result.total.gets)
    assert run.figure("p99") == run.result.latency.percentile(99)
    assert run.figure("service.max") == run.result.service.max()
    nothing = run._replace(result=made.result(0), samples=())
    assert [nothing.figure(name) for name in ("hit", "rate", "p99", "kills", "growth", "errors")] == [
        None
    ] * 6


def test_kills_and_ends_of_the_server_are_notes() -> None:
    notes = kill_notes(made.samples(20, kill_at=14.0))
    assert [(note.at, note.kind) for note in notes] == [(14.0, "kill"), (14.0, "server"), (15.0, "server")]
    assert kill_notes(made.samples(20)) == []
    unseen = [made.Sample(float(at), kills=kills) for at, kills in enumerate((5, None, 6, 6))]
    assert [(note.at, note.kind) for note in kill_notes(tuple(unseen))] == [(2.0, "kill")]


def test_a_note_of_a_kill_says_who_it_was() -> None:
    def told(*seen: tuple[int, int | None, int | None]) -> list[str]:
        samples = [
            made.Sample(float(at), kills=one[0], rss=one[1], hog=one[2]) for at, one in enumerate(seen)
        ]
        return [note.text for note in kill_notes(tuple(samples)) if note.kind == "kill"]

    assert told((0, 5, 5), (1, 5, None), (1, 5, None)) == ["the kernel killed the hog"]
    assert told((0, 5, 5), (1, 5, 5), (1, None, 5)) == [
        "the kernel killed the server"
    ]  # counted, not yet gone
    assert told((0, 5, 5), (2, None, None)) == ["the kernel killed the server and the hog (2 processes)"]
    assert told((0, 5, None), (1, 5, None)) == ["the kernel killed a process of the cgroup"]


def test_numbers_beside_a_chart_are_short() -> None:
    ticks = [report_plot.count_tick(value) for value in (0.0, 0.5, 8000.0, 25_000.0, 600_000.0, 25e6)]
    assert ticks == ["0", "0.5", "8000", "25 k", "600 k", "25 M"]


def test_a_hog_that_was_killed_takes_no_memory_until_there_is_another() -> None:
    seen = [made.Sample(float(at), hog=size) for at, size in enumerate((64 * MIB, None, None, 32 * MIB))]
    assert hog(made.outcome()._replace(samples=tuple(seen)))[1] == [64, 0, 0, 32]


# -- the table --


def test_the_table_has_what_was_measured_and_not_what_was_not() -> None:
    stream = io.StringIO()
    run = made.outcome(problem="the server closed all connections at 12.3 s", kill_at=14.0)
    report_text.show([run], slo.judge(slo.parse("errors=0"), run.figure), stream)
    text = stream.getvalue()
    assert re.search(r"^requests/s +1000$", text, re.MULTILINE)
    assert re.search(r"^latency p99 +\d+ us$", text, re.MULTILINE)
    assert "14.0 s  the kernel killed the server" in text
    assert "not complete: the server closed all connections at 12.3 s" in text
    assert "errors=0: met (0)" in text
    assert "service" not in text  # a closed loop has no other latency
    bare_run = run._replace(samples=(), notes=())
    names = [row.name for row in report_text.rows([bare_run])]
    assert "latency p99" in names
    assert not {"kills", "limit, least", "headroom, least"} & set(names)


# -- files that cannot be written --


def test_a_full_disk_costs_that_file_and_no_other(tmp_path: Path) -> None:
    run = made.outcome()
    good = tmp_path / "good.json"
    problems = report.save(
        [("/dev/full", lambda: b"x" * 100), (str(good), lambda: form.text_of(run).encode())]
    )
    assert problems == ["/dev/full is not written: No space left on device"]
    assert form.load(good) == run


def test_what_was_there_stays_until_the_new_file_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "run.json"
    path.write_text("old")

    def full(_number: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(report.os, "fsync", full)
    assert report.save([(str(path), lambda: b"new")]) == [f"{path} is not written: No space left on device"]
    assert [(each.name, each.read_text()) for each in tmp_path.iterdir()] == [("run.json", "old")]


def test_who_waits_for_a_file_is_told_which(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = threading.Event()
    lines: list[str] = []

    class Stderr(io.StringIO):
        def write(self, text: str) -> int:
            lines.append(text)
            told.set()
            return len(text)

    monkeypatch.setattr(report.sys, "stderr", Stderr())
    quick, slow = tmp_path / "quick", tmp_path / "slow"
    assert report.save([(str(quick), lambda: b"done")]) == []
    assert lines == []
    monkeypatch.setattr(report, "WONDER", 0.01)
    assert report.save([(str(slow), lambda: b"%d" % told.wait(30))]) == []
    assert lines[0] == f"loadtest: making {slow} ..."
    assert slow.read_bytes() == b"1"


@pytest.mark.usefixtures("bare")
def test_a_missing_package_is_said_before_the_run_and_costs_only_its_file(tmp_path: Path) -> None:
    for wanted in (Wanted(html="a.html"), Wanted(png="a.png"), Wanted(hdr="a")):
        with pytest.raises(MissingExtra, match=r"pip install 'cacheserver\[loadtest\]'"):
            wanted.check()
    Wanted(json="a.json").check()
    base = report.in_folder(str(tmp_path), "run")
    problems = report.write(base, made.outcome())
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]
    assert len(problems) == 3
    stream = io.StringIO()
    report_text.show([made.outcome()], [], stream)
    assert "hit ratio" in stream.getvalue()


# -- series --


def test_series_are_per_second_of_what_there_was() -> None:
    run = made.outcome(kill_at=14.0)
    assert rate(run) == ([float(n) for n in range(1, 21)], [1000.0] * 20)
    assert hit_ratio(run)[1][0] == run.result.seconds[0].counters.hits / 1000
    assert set(rates_of(run, "evictions")[1]) == {400.0}
    assert seen(run, "rss", 1)[0] != seen(run, "rss", 1, gaps=True)[0]


def test_a_counter_that_begins_anew_makes_no_negative_rate() -> None:
    run = made.outcome()
    values = [0, 100, 200, 50, 150]
    samples = tuple(made.Sample(float(at), evictions=value) for at, value in enumerate(values))
    assert rates_of(run._replace(samples=samples), "evictions") == ([1.0, 2.0, 4.0], [100.0, 100.0, 100.0])


def test_the_tail_ends_at_the_maximum() -> None:
    places, values = tail(made.histogram(100))
    assert places[0] == pytest.approx(10.0)
    assert places == sorted(places)
    assert values[-1] * 1000 == made.histogram(100).max()


# -- pictures --


@pytest.mark.usefixtures("drawing")
def test_the_page_needs_nothing_from_elsewhere_and_escapes_what_users_said() -> None:
    run = made.outcome("<script>", kill_at=14.0, rate=1000.0)
    page = report_html.page([run], slo.judge(slo.parse("hit>0.99"), run.figure))
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert not re.search(r"""(?:src|href|url)\s*[=(]\s*["']?(?!#|"#|'#)[a-z]+:""", page)
    charts = re.findall(r'<figure id="chart-([a-z-]+)">', page)
    assert charts == [
        "memory", "hit-ratio", "rate", "latency", "backlog", "level", "evictions", "shrinks", "stall", "tail",
    ]  # fmt: skip
    names = re.findall(r'\bid="([^"]+)"', page)
    assert len(names) == len(set(names))
    assert set(re.findall(r'(?:url\(|href=")#([^")]+)', page)) <= set(names)


@pytest.mark.usefixtures("drawing")
def test_a_chart_with_nothing_to_show_is_left_out() -> None:
    run = made.outcome()._replace(samples=(), notes=())
    assert list(report_plot.svgs([run])) == ["hit-ratio", "rate", "latency", "tail"]
    nothing = run._replace(result=made.result(0, problem="nothing came"))
    assert report_plot.png([nothing])[:4] == b"\x89PNG"
    assert "nothing came" in report_html.page([nothing])


@pytest.mark.usefixtures("drawing")
def test_all_files_of_a_report_are_written(tmp_path: Path) -> None:
    base = report.in_folder(str(tmp_path / "new"), "run")
    assert report.write(base, made.outcome(rate=1000.0)) == []
    names = sorted(path.name for path in (tmp_path / "new").iterdir())
    assert names == ["run.hlog", "run.html", "run.json", "run.png", "run.service.hlog"]


@pytest.mark.usefixtures("drawing")
def test_the_hdr_log_is_read_by_hdrhistograms_own_reader(tmp_path: Path) -> None:
    from hdrh.histogram import HdrHistogram
    from hdrh.log import HistogramLogReader

    run = made.outcome(seconds=10)._replace(result=made.result(10, warmup=2))
    path = tmp_path / "run.hlog"
    path.write_text(report_hdr.text_of(run))
    reader = HistogramLogReader(str(path), HdrHistogram(1, 60_000_000, 3))
    found: Mapping[str, Any] = {"total": HdrHistogram(1, 60_000_000, 3)}
    starts: Sequence[float] = []
    while (interval := reader.get_next_interval_histogram()) is not None:
        found["total"].add(interval)
        starts = [*starts, interval.get_start_time_stamp()]
    assert len(starts) == 8
    assert found["total"].get_total_count() == run.result.latency.total()
    for share in (50, 99, 99.9):
        assert found["total"].get_value_at_percentile(share) == pytest.approx(
            run.result.latency.percentile(share), rel=0.001
        )
