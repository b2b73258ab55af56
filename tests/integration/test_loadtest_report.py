"""The load tests' program against real servers, and its report in a real browser."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from loadtest import outcome as form
from loadtest import report_html, slo
from loadtest.extras import MissingExtra
from tests.limits import memory_group
from tests.requirements import missing
from tests.servers import Server, command, free_port, reference_command
from tests.unit.loadtest import made

MIB = 1 << 20
PROGRAM = [sys.executable, "-m", "loadtest"]


@pytest.fixture
def browser() -> str:
    names = ("chromium", "chromium-browser", "google-chrome")
    return next(filter(None, map(shutil.which, names)), None) or missing("no chromium is installed")


@pytest.fixture(params=["cacheserver", "memcached"])
def server(request: pytest.FixtureRequest) -> Iterator[str]:
    port = free_port()
    argv = command(port) if request.param == "cacheserver" else reference_command(port, "-m", "64")
    with Server(argv, ("127.0.0.1", port)):
        yield f"127.0.0.1:{port}"


def loadtest(folder: Path, *given: str, status: int = 0) -> str:
    """Run the program in `folder`; what it printed."""
    done = subprocess.run(
        [*PROGRAM, *given],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_a_run_against_a_real_server_leaves_results_with_a_timeline(tmp_path: Path, server: str) -> None:
    said = loadtest(
        tmp_path, "run", server, "--fill", "--keys", "1000", "--rate", "2000", "--seconds", "2",
        "--json", "run.json", "--slo", "errors=0,wrong=0,hit>0.1", "--verify", "--quiet",
    )  # fmt: skip
    assert "errors=0: met (0)" in said
    kept = form.load(tmp_path / "run.json")
    assert kept.result.complete
    assert kept.result.total.requests == pytest.approx(4000, rel=0.5)
    seen = [sample for sample in kept.samples if sample.at > 0]
    assert all(sample.rss for sample in seen)
    assert any(sample.items for sample in seen)
    assert json.loads((tmp_path / "run.json").read_text())["ALL STATS"]["Totals"]["Ops/sec"] > 0


def test_nobody_listening_is_one_line_and_status_2(tmp_path: Path) -> None:
    said = loadtest(tmp_path, "run", f"127.0.0.1:{free_port()}", "--quiet", status=2)
    (line,) = said.splitlines()
    assert line.startswith("loadtest: ")
    assert "is a server running there?" in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_ctrl_c_ends_a_real_run_and_keeps_it(tmp_path: Path, server: str, how: signal.Signals) -> None:
    argv = [*PROGRAM, "run", server, "--seconds", "60", "--rate", "500", "--json", "part.json"]
    with subprocess.Popen(
        argv, cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])},
        start_new_session=True,
    ) as process:  # fmt: skip
        assert process.stderr is not None
        while not process.stderr.readline().startswith("1 s"):
            assert process.poll() is None
        os.killpg(process.pid, how)  # a terminal tells the whole group
        process.stderr.read()
        assert process.wait(60) == 130
    kept = form.load(tmp_path / "part.json")
    assert kept.result.problem.startswith("interrupted at")
    assert kept.result.total.requests > 0
    assert len(kept.result.seconds) > 1  # the one that had begun, too


def test_the_hog_and_the_limit_move_in_a_real_cgroup_and_both_are_gone_in_the_end(tmp_path: Path) -> None:
    port = free_port()
    with memory_group(192 * MIB) as group, Server(command(port), ("127.0.0.1", port), group=group.path):
        said = loadtest(
            tmp_path, "run", f"127.0.0.1:{port}", "--rate", "500", "--seconds", "6", "--json", "run.json",
            "--at", "1s hog=25% hold=2s", "--at", "2s limit=160M", "--quiet", "--slo", "kills=0,errors=0",
        )  # fmt: skip
        kept = form.load(tmp_path / "run.json")
        assert max(sample.hog or 0 for sample in kept.samples) >= 48 * MIB, said
        limits = {sample.limit for sample in kept.samples}
        assert {192 * MIB, 160 * MIB} <= limits
        assert [note.kind for note in kept.notes] == ["hog", "limit", "hog"]
        assert len(group.processes()) == 1  # the server
        name = "memory.limit_in_bytes" if group.version == 1 else "memory.max"
        assert int((group.path / name).read_text()) == 192 * MIB


# -- the page --


def dom(browser: str, page: Path, home: Path) -> str:
    """What chromium makes of a page, with no network."""
    done = subprocess.run(
        [
            browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
            f"--user-data-dir={home}", "--proxy-server=127.0.0.1:9", "--dump-dom", page.as_uri(),
        ],
        capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def words(markup: str) -> str:
    """The text in it: a legend breaks its lines."""
    return " ".join(re.sub("<[^>]*>", " ", markup).split())


def test_the_page_shows_its_charts_in_a_browser_without_a_network(tmp_path: Path, browser: str) -> None:
    run = made.outcome("one <run>", kill_at=14.0, rate=1000.0)
    verdicts = slo.judge(slo.parse("hit>0.99,errors=0"), run.figure)
    page = tmp_path / "run.html"
    try:
        page.write_text(report_html.page([run, made.outcome("two")], verdicts))
    except MissingExtra as error:
        missing(str(error))
    found = dom(browser, page, tmp_path / "home")
    charts = re.findall(r'<figure id="chart-([a-z-]+)">(.*?)</figure>', found, re.DOTALL)
    assert [name for name, _ in charts][:4] == ["memory", "hit-ratio", "rate", "latency"]
    for name, content in charts:
        assert re.search(r'<path d="M [\d.]+ [\d.]+ ', content), name  # something is drawn
        assert "seconds since the start" in content or name == "tail"
    assert "one &lt;run&gt;: the kernel killed the server" in words(dict(charts)["memory"])
    assert '<li class="bad">hit&gt;0.99: NOT MET' in found
    assert "<script" not in found
