"""Descriptors by which the host speaks first: PSI, a service manager, cgroup v1; real FIFOs and sockets."""

from __future__ import annotations

import base64
import logging
import os
import select
import socket
import threading
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from cacheserver.pressure import Monitor, Source, Watch, detect
from cacheserver.pressure.cgroup import CgroupSource
from cacheserver.pressure.mounts import file_system
from cacheserver.pressure.notice import BACKOFF_MAX, SETTLED, NoticeSource
from cacheserver.pressure.psi import TRIGGER, StallSource
from cacheserver.pressure.source import Trouble
from cacheserver.pressure.systemd import ServiceSource
from cacheserver.pressure.vmpressure import MARKS, GroupNotices
from tests.unit.pressure.conftest import HandSource

Tree = Callable[[str], Path]
MIB = 1 << 20


@pytest.fixture(autouse=True)
def every_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "cacheserver.pressure")


def watch_at(source: Source, now: float) -> Watch | None:
    """The source's one watch at the time `now`."""
    source.read(now)
    watches = source.watches()
    assert len(watches) <= 1
    return watches[0] if watches else None


def ready(watch: Watch, seconds: float = 0.0) -> int:
    """The events poll reports of a watch, 0 for none."""
    poller = select.poll()
    poller.register(watch.fd, watch.events)
    return sum(events for _, events in poller.poll(seconds * 1000.0))


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
    assert watch_at(source, 2.0)
    assert (own / "memory.pressure").read_bytes() == TRIGGER
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


# -- systemd --


def service(path: Path, text: bytes = b"", root: Path = Path("/")) -> ServiceSource:
    return ServiceSource(str(path), base64.b64encode(text).decode(), str(root))


def test_a_fifo_is_given_the_text_and_watched_for_what_comes(tmp_path: Path) -> None:
    path = tmp_path / "watch"
    os.mkfifo(path)
    source = service(path)
    watch = watch_at(source, 1.0)
    assert watch is not None
    assert watch.events == select.POLLIN
    for _ in range(2):  # writers that come and go are no end
        path.write_bytes(b"pressure\n")
        assert watch.acknowledge(ready(watch))
        assert ready(watch) == 0
    source.close()
    source = service(path, b"some 1\0")
    watch = watch_at(source, 1.0)
    assert watch is not None
    assert os.read(watch.fd, 100) == b"some 1\0"
    source.close()


def test_a_socket_is_given_the_text_and_reconnected_when_it_goes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "watch"
    source = service(path, b"some\0text")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        assert watch_at(source, 1.0) is None  # nobody listens yet
        listener.listen()
        watch = watch_at(source, 60.0)
        assert watch is not None
        peer, _ = listener.accept()
        assert peer.recv(100) == b"some\0text"
        assert ready(watch) == 0
        peer.send(b"!")
        assert watch.acknowledge(ready(watch))
        peer.close()
        assert not watch.acknowledge(ready(watch))
    assert watch_at(source, 120.0) is None
    assert len(caplog.records) == 1


def test_a_psi_file_is_given_the_text_and_never_read(tree: Tree, tmp_path: Path) -> None:
    root = tree("docker-v2")
    path = tmp_path / "memory.pressure"
    path.write_bytes(b"")
    device = path.stat().st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    (root / "proc/self/mountinfo").write_text(f"1 0 {number} / / rw - cgroup2 c rw\n")
    assert file_system((root / "proc/self/mountinfo").read_text(), device) == "cgroup2"
    source = service(path, TRIGGER, root)
    watch = watch_at(source, 1.0)
    assert watch is not None
    assert watch.events == select.POLLPRI
    assert path.read_bytes() == TRIGGER
    assert os.lseek(watch.fd, 0, os.SEEK_CUR) == len(TRIGGER)
    assert watch.acknowledge(select.POLLPRI)
    assert os.lseek(watch.fd, 0, os.SEEK_CUR) == len(TRIGGER)
    source.close()


@pytest.mark.parametrize(
    ("watch", "write", "why"),
    [
        ("memory.pressure", "", "not an absolute path"),
        ("{}/../x", "", "not an absolute path"),
        ("{}//file", "", "not an absolute path"),
        ("{}/file", "not Base64", "MEMORY_PRESSURE_WRITE is not Base64"),
        ("{}/file", "c29tZQ==", "not one of the kernel's PSI files"),
        ("{}/none", "", "No such file"),
        ("{}", "", "neither a PSI file nor a FIFO nor a socket"),
        ("/dev/zero", "", "neither a PSI file nor a FIFO nor a socket"),
    ],
)
def test_a_watch_that_cannot_be_is_told_in_one_line_and_nothing_is_damaged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, watch: str, write: str, why: str
) -> None:
    (tmp_path / "file").write_text("precious")
    source = ServiceSource(watch.format(tmp_path), write)
    assert [watch_at(source, float(now)) for now in range(9)] == [None] * 9
    assert len(caplog.records) == 1
    assert why in caplog.records[0].getMessage()
    assert (tmp_path / "file").read_text() == "precious"


@pytest.mark.parametrize(
    ("environ", "last"),
    [
        ({}, "psi"),
        ({"MEMORY_PRESSURE_WATCH": "/run/watch"}, "systemd"),
        ({"MEMORY_PRESSURE_WATCH": ""}, "rlimit"),
        ({"MEMORY_PRESSURE_WATCH": "/dev/null", "MEMORY_PRESSURE_WRITE": "eA=="}, "rlimit"),
    ],
)
def test_the_service_managers_watch_takes_the_triggers_place_and_leaves_the_readings(
    tree: Tree, environ: dict[str, str], last: str
) -> None:
    names = [source.name for source in detect(str(tree("docker-v2")), environ)]
    assert names[:3] == ["cgroup", "meminfo", "numa"]
    assert names[-1] == last


# -- cgroup v1 --


def test_v1_is_asked_for_three_levels_and_for_marks_below_the_limit(tmp_path: Path) -> None:
    written = []
    for name in ("memory.pressure_level", "memory.usage_in_bytes"):
        (tmp_path / name).write_text("")
    os.mkfifo(tmp_path / "cgroup.event_control")
    reader = os.open(tmp_path / "cgroup.event_control", os.O_RDWR | os.O_NONBLOCK)
    notices = GroupNotices(str(tmp_path))

    def asked() -> list[str]:
        text = os.read(reader, 4096).decode()
        written.append(text)
        return text.split()

    assert not notices.marked
    watches = notices.watches(100 * MIB)
    assert notices.marked
    words = asked()
    assert "low,local" in words[2]
    assert all(str(watch.fd) in written[0] for watch in watches)
    assert str(100 * MIB - int(100 * MIB * MARKS[0])) in written[0]
    low, medium, critical, *marks = watches
    assert [watch.stall for watch in watches] == [False, True, True, False, False]
    assert {watch.events for watch in watches} == {select.POLLIN}
    for watch, offered in ((low, False), (medium, True), (critical, True), (marks[0], True)):
        os.eventfd_write(watch.fd, 3)
        assert watch.acknowledge(ready(watch)) is offered
        assert ready(watch) == 0
    assert notices.criticals == 1

    assert [watch.fd for watch in notices.watches(100 * MIB)] == [watch.fd for watch in watches]
    notices.watches(50 * MIB)  # the limit was lowered: the marks move with it
    assert f" {50 * MIB - int(50 * MIB * MARKS[1])}" in os.read(reader, 4096).decode()
    assert not marks[0].acknowledge(select.POLLIN)
    notices.close()
    assert not critical.acknowledge(select.POLLIN)
    os.close(reader)


def test_v1_groups_without_leave_to_register_cost_one_line_together(
    tree: Tree, caplog: pytest.LogCaptureFixture
) -> None:
    root = tree("hybrid-v1")
    memory = root / "sys/fs/cgroup/memory"
    groups = (memory, memory / "service", memory / "service/web")
    for group in groups:
        (group / "memory.pressure_level").write_text("")
        (group / "cgroup.event_control").mkdir()  # cannot be written to, not even by root
    source = CgroupSource(str(root))
    before = len(os.listdir("/proc/self/fd"))
    for now in range(1, 5):
        assert len(source.read(float(now))) == 2
        assert source.watches() == []
    assert len(caplog.records) == 1
    assert "cgroup.event_control: Is a directory" in caplog.records[0].getMessage()
    source.close()
    assert len(os.listdir("/proc/self/fd")) <= before


def test_a_critical_notice_shows_in_the_next_reading_as_trouble_at_the_bound(tree: Tree) -> None:
    root = tree("docker-v1")
    memory = root / "sys/fs/cgroup/memory"
    (memory / "memory.pressure_level").write_text("")
    (memory / "cgroup.event_control").write_text("")
    source = CgroupSource(str(root))
    (before,) = source.read(1.0)
    critical = source.watches()[2]
    os.eventfd_write(critical.fd, 1)
    assert critical.acknowledge(select.POLLIN)
    assert source.read(1.1)[0].throttles == before.throttles + 1
    source.close()


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
