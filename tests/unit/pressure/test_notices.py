"""Descriptors by which the host speaks first: how one is kept open, and PSI's."""

from __future__ import annotations

import logging
import os
import select
import socket
import threading
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from cacheserver.pressure import Monitor, Watch
from cacheserver.pressure.notice import BACKOFF_MAX, SETTLED, NoticeSource
from cacheserver.pressure.psi import TRIGGER, StallSource
from cacheserver.pressure.source import Trouble
from tests.unit.pressure.conftest import HandSource, ready, watch_at

Tree = Callable[[str], Path]


@pytest.fixture(autouse=True)
def every_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "cacheserver.pressure")


class Pipe(NoticeSource):
    """A notice source on one end of a socket pair made anew at each opening."""

    def __init__(self) -> None:
        super().__init__(Trouble("a pipe"))
        self.opened = 0
        self.peer = socket.socket()
        self.refuse = False

    def _open(self) -> tuple[int, int]:
        self.opened += 1
        if self.refuse:
            raise PermissionError(1, "not allowed")
        self.peer.close()
        ours, self.peer = socket.socketpair()
        ours.setblocking(False)
        return ours.detach(), select.POLLIN


@pytest.fixture
def pipe() -> Pipe:
    return Pipe()


def test_what_comes_is_a_notice_and_is_thrown_away(pipe: Pipe) -> None:
    watch = watch_at(pipe, 1.0)
    assert watch is not None
    assert watch.stall
    assert ready(watch) == 0
    pipe.peer.send(b"x" * 10_000)
    assert watch.acknowledge(ready(watch))
    assert ready(watch) == 0
    pipe.close()


def test_a_lost_descriptor_is_opened_again_later_and_later_with_one_line_in_all(
    pipe: Pipe, caplog: pytest.LogCaptureFixture
) -> None:
    opened = []
    for second in range(1, 400):
        before = pipe.opened
        watch = watch_at(pipe, float(second))
        if pipe.opened > before:
            opened.append(second)
        if watch:
            pipe.peer.close()
            assert not watch.acknowledge(ready(watch))  # no busy loop: it is not offered again at once
    gaps = [after - before for before, after in pairwise(opened)]
    assert gaps[:5] == [1, 2, 4, 8, 16]
    assert gaps[-1] == BACKOFF_MAX
    assert len(caplog.records) == 1
    assert watch_at(pipe, 1000.0)
    assert watch_at(pipe, 1000.0 + SETTLED)
    assert [line.levelname for line in caplog.records] == ["WARNING", "INFO"]
    pipe.close()


def test_a_refused_descriptor_costs_one_line_and_is_tried_again(
    pipe: Pipe, caplog: pytest.LogCaptureFixture
) -> None:
    pipe.refuse = True
    assert [watch_at(pipe, float(now)) for now in range(20)] == [None] * 20
    assert pipe.opened == 5
    assert [line.getMessage() for line in caplog.records] == ["a pipe: not allowed; going on without it"]
    pipe.refuse = False
    assert watch_at(pipe, 60.0)
    pipe.close()


def test_a_notice_that_comes_with_the_end_still_counts(pipe: Pipe) -> None:
    watch = watch_at(pipe, 1.0)
    assert watch is not None
    pipe.peer.send(b"x")
    pipe.peer.close()
    assert watch.acknowledge(ready(watch))
    assert not watch.acknowledge(ready(watch))


def test_an_old_watch_of_a_source_opened_anew_is_forgotten(pipe: Pipe) -> None:
    old = watch_at(pipe, 1.0)
    assert old is not None
    kept = os.dup(old.fd)  # so that the new one gets another number
    pipe.close()
    new = watch_at(pipe, 2.0)
    assert new is not None
    if new.fd != old.fd:
        assert not old.acknowledge(select.POLLIN)
    os.close(kept)
    pipe.close()


# -- PSI --


def test_no_trigger_is_written_into_what_is_not_a_kernel_file(
    tree: Tree, caplog: pytest.LogCaptureFixture
) -> None:
    root = tree("docker-v2")
    source = StallSource(str(root))
    assert watch_at(source, 1.0) is watch_at(source, 9.0) is None
    assert (root / "sys/fs/cgroup/memory.pressure").read_text().startswith("some avg10=2.50")
    assert (root / "proc/pressure/memory").read_text().startswith("some avg10=0.00")
    assert len(caplog.records) == 1
    assert "proc/pressure/memory: not a kernel file" in caplog.text


def test_a_kernel_without_psi_is_not_worth_a_line(tree: Tree, caplog: pytest.LogCaptureFixture) -> None:
    assert watch_at(StallSource(str(tree("docker-v1"))), 1.0) is None
    assert caplog.records == []


def test_the_trigger_follows_the_process_to_its_group(tree: Tree) -> None:
    root = tree("kubernetes-v2")  # triggers go into files of no size, as a kernel's are
    own = root / r"sys/fs/cgroup/kubepods.slice/pod\x2d7.slice"
    for directory in (own, own / "cri c.scope"):
        (directory / "memory.pressure").write_text("")
    source = StallSource(str(root))
    watch = watch_at(source, 1.0)
    assert watch is not None
    assert watch.events == select.POLLPRI
    assert (own / "cri c.scope/memory.pressure").read_bytes() == TRIGGER
    assert (own / "memory.pressure").read_bytes() == b""
    (root / "proc/self/cgroup").write_text("0::/kubepods.slice/pod\\x2d7.slice\n")
    assert (watch := watch_at(source, 2.0))
    assert (own / "memory.pressure").read_bytes() == TRIGGER
    (root / "proc/self/cgroup").unlink()
    assert (again := watch_at(source, 4.0))
    assert again.fd == watch.fd  # what cannot be told is no reason to lose the trigger
    source.close()


def test_a_trigger_that_is_gone_is_not_watched_again_at_once(
    tree: Tree, caplog: pytest.LogCaptureFixture
) -> None:
    root = tree("kubernetes-v2")
    (root / "proc/pressure").mkdir()
    (root / "proc/pressure/memory").write_text("")
    source = StallSource(str(root))
    watch = watch_at(source, 1.0)
    assert watch is not None
    assert watch.acknowledge(select.POLLPRI)
    assert not watch.acknowledge(select.POLLPRI | select.POLLERR)
    assert watch_at(source, 1.5) is None
    assert len(caplog.records) == 1


# -- the monitor --


def test_the_running_monitor_waits_for_the_events_that_a_watch_names() -> None:
    fd = os.eventfd(0, os.EFD_NONBLOCK)
    seen = threading.Event()

    def acknowledge(events: int) -> bool:
        assert events & select.POLLIN
        os.eventfd_read(fd)
        seen.set()
        return True

    class Speaking(HandSource):
        def watches(self) -> list[Watch]:
            return [Watch(fd, False, acknowledge, select.POLLIN)]

    monitor = Monitor([Speaking(16 << 30)])
    monitor.start()
    try:
        os.eventfd_write(fd, 1)
        assert seen.wait(5)
    finally:
        monitor.stop()
        os.close(fd)
