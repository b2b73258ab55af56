"""What a service manager has arranged to be watched: real FIFOs and sockets, a file in the place of PSI's."""

from __future__ import annotations

import base64
import logging
import os
import select
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from cacheserver.pressure import detect
from cacheserver.pressure.mounts import file_system
from cacheserver.pressure.psi import TRIGGER
from cacheserver.pressure.systemd import ServiceSource
from tests.unit.pressure.conftest import ready, watch_at

Tree = Callable[[str], Path]


@pytest.fixture(autouse=True)
def every_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "cacheserver.pressure")


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
