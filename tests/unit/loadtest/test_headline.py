"""The demonstration: sizes, commands, a server that is started anew, figures."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from loadtest.groups import Group
from loadtest.headline import (
    HeadlineError,
    Plan,
    Supervised,
    demonstrate,
    figures,
    free_port,
    silent,
    used,
)
from loadtest.live import Live
from loadtest.scenario import plan
from loadtest.units import MIB
from tests.unit.loadtest import made
from tests.unit.loadtest.test_neighbour import until

LISTEN = 'import socket, time; s = socket.create_server(("127.0.0.1", {port})); time.sleep(60)'
ANSWERING = f"{sys.executable} -c '{LISTEN}'"


def group(folder: Path, limit: int = 256 * MIB) -> Group:
    folder.mkdir(exist_ok=True)
    for name, text in (
        ("cgroup.procs", ""),
        ("memory.max", f"{limit}"),
        ("memory.current", f"{limit // 2}"),
        ("memory.events", "oom_kill 0"),
    ):
        (folder / name).write_text(text)
    return Group(folder, 2)


def test_the_well_chosen_size_leaves_room_for_the_neighbour_and_the_large_one_does_not() -> None:
    ours, well, large = Plan(limit=256 * MIB, peak=96 * MIB).contenders()
    assert "-m" not in ours[1].split()[3:]
    assert well[1].endswith("-m 136")
    assert large[1].endswith("-m 217")
    assert 136 + 96 < 256 < 217 + 96


def test_the_neighbour_comes_twice_and_goes() -> None:
    scenario = Plan(seconds=120.0).scenario()
    actions = plan(scenario.events, 256 * MIB, 120.0)
    assert [(each.at, each.nbytes // MIB) for each in actions] == [(40, 96), (60, 0), (80, 96), (100, 0)]
    assert (scenario.workload.fill, scenario.load.rate, scenario.load.patience) == (True, 20_000.0, 120.0)


def test_a_server_that_is_killed_is_started_anew_and_ends_with_the_demonstration(tmp_path: Path) -> None:
    where = group(tmp_path / "group")
    with Supervised(ANSWERING, free_port(), where) as server:
        first = server.pid
        assert first is not None
        assert os.getpgid(first) == first  # Ctrl-C does not reach it
        assert (tmp_path / "group/cgroup.procs").read_text().strip() == str(first)
        os.kill(first, signal.SIGKILL)
        assert until(lambda: server.pid not in (None, first))
        second = server.pid
    assert server.pid is None
    assert second is not None
    with pytest.raises(ProcessLookupError):
        os.kill(second, 0)


def test_a_server_that_does_not_start_says_why(tmp_path: Path) -> None:
    command = f"{sys.executable} -c 'raise SystemExit(\"no port {{port}} for me\")'"
    with (
        pytest.raises(HeadlineError, match=r"does not start: no port \d+ for me"),
        Supervised(command, free_port(), group(tmp_path / "group")),
    ):
        pass


def test_a_program_that_is_missing_is_said_before_anything_is_tried() -> None:
    lacking = Plan(memcached="no-such-program -p {port}")
    tried = demonstrate(lacking, made.fake_run(made.result()), watch=lambda label: Live(label, quiet=True))
    with pytest.raises(HeadlineError, match=r"^no-such-program is not installed: "):
        next(tried)


def test_all_three_are_tried_each_in_a_group_of_its_own(tmp_path: Path) -> None:
    made_groups: list[int] = []

    @contextlib.contextmanager
    def limited(limit: int) -> Iterator[Group]:
        made_groups.append(limit)
        yield group(tmp_path / str(len(made_groups)), limit)

    small = Plan(limit=64 * MIB, peak=1 * MIB, seconds=1.0, ours=ANSWERING, memcached=f"{ANSWERING} --")
    outcomes = list(
        demonstrate(
            small, made.fake_run(made.result(3)), watch=lambda label: Live(label, quiet=True), limited=limited
        )
    )
    assert made_groups == [64 * MIB] * 3
    assert [outcome.label for outcome in outcomes] == ["cacheserver", "memcached -m 53", "memcached -m 54"]
    assert all(outcome.samples[-1].limit == 64 * MIB for outcome in outcomes)
    assert "-m 53" in outcomes[1].facts["command"]
    told = figures(outcomes)
    assert [each["kills"] for each in told] == [0, 0, 0]
    assert [each["mean memory used of the limit"] for each in told] == [0.5] * 3


def test_the_figures_count_seconds_without_an_answer_and_the_memory_in_use() -> None:
    run = made.outcome(kill_at=14.0)
    dead = run.result.seconds[3]._replace(counters=type(run.result.total)())
    run = run._replace(result=run.result._replace(seconds=(*run.result.seconds[:3], dead)))
    assert silent(run) == 1
    assert used(run) == pytest.approx(0.6, abs=0.05)
