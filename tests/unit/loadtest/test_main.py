"""The program: what it prints, what it keeps, its exit status, and what it says when something is wrong."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import socket
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from loadtest import outcome as form
from loadtest import scenario
from loadtest.__main__ import INTERRUPTED, NOT_MEASURED, NOT_MET, main
from loadtest.neighbour import Note
from loadtest.play import RunError
from tests.unit.loadtest import made


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def address() -> Iterator[str]:
    """Where a process of this machine listens: this one."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"127.0.0.1:{listening.getsockname()[1]}"


def run(*given: str, **named: Any) -> int:
    return main(["run", "--quiet", *given], made.fake_run(**{"given": made.result(), **named}))


def only_json(folder: Path) -> form.Outcome:
    (path,) = folder.glob("*.json")
    return form.load(path)


def test_a_run_prints_its_table_and_leaves_its_results(
    tmp_path: Path, address: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(address, "--scenario", "steady", "--keys", "77", "--seconds", "2m", "--fill") == 0
    said = capsys.readouterr()
    assert re.search(r"^hit ratio +0\.\d+$", said.out, re.MULTILINE)
    assert "results: loadtest-steady-" in said.err
    kept = only_json(tmp_path)
    assert (kept.scenario, kept.result.workload.keys, kept.result.load.seconds) == ("steady", 77, 120.0)
    assert kept.result.workload.fill
    assert kept.samples[-1].rss is not None  # this process listens there
    assert kept.facts["process"] == str(os.getpid())


def test_the_exit_status_tells_of_the_conditions(address: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(address, "--slo", "p99<2ms,errors=0") == 0
    assert "p99<2ms: met" in capsys.readouterr().out
    assert run(address, "--slo", "p99<2us,errors=0") == NOT_MET
    assert "p99<2us: NOT MET" in capsys.readouterr().out
    assert run(address, "--slo", "growth<1M") == NOT_MEASURED
    assert "growth<1M: not measured" in capsys.readouterr().out
    failed = made.result()
    failed = failed._replace(total=failed.total._replace(errors=3))
    assert run(address, given=failed) == NOT_MET  # errors are not all well, even if nobody has said so
    assert "errors=0: NOT MET (3)" in capsys.readouterr().out
    assert run(address, "--slo", "", given=failed) == 0
    assert run(address, given=made.result(problem="the server closed all connections at 3 s")) == NOT_MEASURED


def test_json_to_stdout_is_all_that_is_on_stdout(address: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(address, "--json", "-") == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["ALL STATS"]["Totals"]["Count"] == 20_000
    assert "hit ratio" in said.err


# -- mistakes --


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--scenario", "steddy"], "no scenario is called 'steddy': say one of"),
        (["--get-share", "1.5"], "--get-share: 1.5 is not from 0 to 1"),
        (["--slo", "p99"], "--slo: 'p99' is no condition"),
        (["--at", "3s hug=5M"], "there is no field 'hug'"),
        (["--at", "3s limit=5M", "--cgroup", "/nowhere"], "/nowhere is no memory cgroup"),
        (["--pid", "4194305"], "--pid 4194305: no such process"),
        (["--container", "nobody"], "--container nobody: "),
        (["--json", "/"], "/ cannot be written: it is a folder"),
        (["--json", "/dev/null/deep/a.json"], "cannot be written: /dev/null is no folder"),
    ],
)
def test_a_mistake_is_one_line_and_nothing_is_run(
    tmp_path: Path, address: str, capsys: pytest.CaptureFixture[str], given: list[str], said: str
) -> None:
    assert run(address, *given, error=AssertionError("must not be run")) == NOT_MEASURED
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("loadtest: ")
    assert said in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "given", [["--steps", "5"], ["--keys", "many"], ["--seconds", "soon"], ["--colour", "red"]]
)
def test_an_option_that_makes_no_sense_is_refused(
    address: str, capsys: pytest.CaptureFixture[str], given: list[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        run(address, *given)
    assert ended.value.code == NOT_MEASURED
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("loadtest: ")
    assert given[-1] in line


def test_a_server_that_is_not_there_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    error = RunError("192.0.2.1:11211 does not answer: is a server running there?")
    assert run("192.0.2.1:11211", error=error) == NOT_MEASURED
    assert capsys.readouterr().err == f"loadtest: {error}\n"


def test_a_server_that_dies_leaves_what_was_measured(
    tmp_path: Path, address: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given = made.result(5, problem="the server closed all connections at 5.0 s")
    assert run(address, "--json", "part.json", given=given) == NOT_MEASURED
    assert "not complete: the server closed all connections at 5.0 s" in capsys.readouterr().out
    kept = form.load("part.json")
    assert (kept.result.complete, len(kept.result.seconds)) == (False, 5)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_ctrl_c_keeps_what_was_measured(
    address: str, capsys: pytest.CaptureFixture[str], how: signal.Signals
) -> None:
    before = signal.getsignal(how)

    def interrupt(second: Any) -> None:
        if second.at == 3:
            os.kill(os.getpid(), how)

    assert run(address, "--json", "part.json", on_each=interrupt) == INTERRUPTED
    assert "not complete: interrupted at " in capsys.readouterr().out
    kept = form.load("part.json")
    assert (kept.result.problem[:14], kept.result.complete) == ("interrupted at", False)
    assert signal.getsignal(how) is before


def test_a_disk_that_is_full_costs_neither_the_table_nor_the_results(
    address: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        monkeypatch.setattr("tempfile.tempdir", folder)
        assert run(address, "--json", "/dev/full") == NOT_MEASURED
        said = capsys.readouterr()
        assert "hit ratio" in said.out
        (kept,) = Path(folder).glob("loadtest-*/full")
        assert said.err.splitlines() == [
            f"loadtest: /dev/full is not written: {os.strerror(errno.ENOSPC)}",
            f"loadtest: the results are kept in {kept}",
        ]
        assert form.load(kept).result.total.requests == 20_000


@pytest.mark.parametrize("closed", ["stdout", "stderr"])
def test_a_stream_that_nobody_reads_does_not_cost_the_results(
    tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch, closed: str
) -> None:
    monkeypatch.setattr(sys, closed, None)  # as Python has it when the caller has closed it
    assert main(["run", address, "--json", "a.json"], made.fake_run(made.result())) == 0
    assert only_json(tmp_path).result.complete


def test_a_limit_that_nobody_knows_is_said_before_the_load(
    address: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("loadtest.whose.listener", lambda _address: None)
    assert run(address, "--scenario", "pressure", error=AssertionError("must not be run")) == NOT_MEASURED
    assert "none is known" in capsys.readouterr().err


def test_an_event_that_did_not_come_about_is_said(
    tmp_path: Path, address: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = Note(3.0, "failed", "limit 5.0 MiB refused by the kernel: Device or resource busy")
    monkeypatch.setattr(
        "loadtest.__main__.play", lambda *_given, **_named: made.outcome()._replace(notes=(refused,))
    )
    assert run(address) == NOT_MEASURED
    said = capsys.readouterr()
    assert f"     3.0 s  {refused.text}\n" in said.out
    assert f"loadtest: {refused.text}\nresults: " in said.err
    assert only_json(tmp_path).notes == (refused,)


# -- the other commands --


def test_report_and_compare_read_what_run_has_left(
    tmp_path: Path, address: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(address, "--json", "a.json", "--label", "a") == 0
    assert run(address, "--json", "b.json", "--label", "b", "--depth", "4") == 0
    capsys.readouterr()
    assert main(["report", "a.json", "--slo", "hit>0.99"]) == NOT_MET
    assert "hit>0.99: NOT MET" in capsys.readouterr().out
    assert main(["compare", "a.json", "b.json"]) == 0
    said = capsys.readouterr().out
    assert "not the same load: depth is a: 1, b: 4" in said
    assert "+0.0 %" in said
    assert main(["compare", "a.json", "none.json"]) == NOT_MEASURED
    assert capsys.readouterr().err == "loadtest: none.json cannot be read: No such file or directory\n"


def test_replay_is_still_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["replay", "127.0.0.1:1", "zipf:keys=5"]) == 1
    assert capsys.readouterr().err.startswith("replay: 127.0.0.1:1 does not answer")


def test_the_help_names_every_scenario(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["run", "--help"])
    text = capsys.readouterr().out
    for name in scenario.names():
        assert f"{name}:" in re.sub(r"\s+", " ", text)


def test_the_headline_wants_a_neighbour_that_fits(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["headline", "--limit", "64M", "--peak", "64M"]) == NOT_MEASURED
    assert "--peak is below --limit" in capsys.readouterr().err
