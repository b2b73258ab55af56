"""Whom a scenario may touch beside the server it loads."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from loadtest.groups import Group
from loadtest.play import RunError, play
from loadtest.scenario import Event, Scenario, Size
from loadtest.units import MIB
from loadtest.whose import Target
from loadtest.workload import Load, Workload
from tests.unit.loadtest import made

SERVER, OTHER = os.getpid(), os.getppid()
LOWERED = Scenario("one", "", Workload(), Load(seconds=1.0), (Event(0.5, "limit", Size(50 * MIB)),), ())


def group_of(folder: Path, *pids: int) -> Group:
    """A group of version 2 with 100 MiB and these processes, the last one in a group below it."""
    below = folder / "below"
    below.mkdir()
    (folder / "memory.max").write_text(str(100 * MIB))
    (folder / "cgroup.procs").write_text("".join(f"{pid}\n" for pid in pids[:-1]))
    (below / "cgroup.procs").write_text(f"{pids[-1]}\n")
    return Group(folder, 2)


def test_a_limit_that_binds_others_moves_only_where_somebody_names_the_group(tmp_path: Path) -> None:
    target = Target(SERVER, group_of(tmp_path, SERVER, OTHER))
    load = made.fake_run(made.result())
    with pytest.raises(RunError, match=r"for 1 other processes in the server's cgroup .* --cgroup"):
        play("127.0.0.1:1", LOWERED, load, find=lambda: target)
    play("127.0.0.1:1", LOWERED._replace(events=()), load, find=lambda: target)
    play("127.0.0.1:1", LOWERED, load, find=lambda: target._replace(named=True))


def test_a_limit_that_binds_the_server_alone_moves(tmp_path: Path) -> None:
    target = Target(SERVER, group_of(tmp_path, SERVER, SERVER))
    play("127.0.0.1:1", LOWERED, made.fake_run(made.result()), find=lambda: target)
