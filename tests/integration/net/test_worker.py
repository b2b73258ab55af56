"""The worker's thread: serving, housekeeping, draining, failing."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from cacheserver.worker import Worker

WAIT = 10.0  # seconds


@pytest.fixture
def make_worker(make_rig: Any) -> Iterator[Callable[..., Worker]]:
    workers: list[Worker] = []

    def make(**options: Any) -> Worker:
        options.setdefault("on_error", lambda error: None)
        worker = Worker("test", make_rig().reactor, **options)
        workers.append(worker)
        worker.start()
        return worker

    yield make
    for worker in workers:
        worker.stop()
        assert worker.join(WAIT)


def connect(worker: Worker) -> socket.socket:
    client, server = socket.socketpair()
    server.setblocking(False)
    client.settimeout(WAIT)
    assert worker.reactor.adopt(server.detach())
    return client


def test_worker_serves_until_it_is_stopped(make_worker: Any) -> None:
    worker = make_worker()
    with connect(worker) as client:
        client.send(b"get a\r\n")
        assert client.recv(100) == b"END\r\n"
        worker.stop()
        assert worker.join(WAIT)
        assert client.recv(100) == b""
    assert not worker.call_soon_threadsafe(print)
    worker.stop()


def test_housekeeping_runs_again_and_again_on_the_workers_thread(make_worker: Any) -> None:
    names: list[str] = []
    enough = threading.Event()

    def task() -> None:
        names.append(threading.current_thread().name)
        if len(names) == 3:
            enough.set()

    make_worker(housekeeping=[(0.001, task)])
    assert enough.wait(WAIT)
    assert set(names) == {"test"}


def test_drain_waits_for_what_is_in_flight(make_worker: Any) -> None:
    worker = make_worker()
    with connect(worker) as half, connect(worker) as idle:
        half.send(b"get a\r\nset k 0 0 4\r\nab")
        assert half.recv(100) == b"END\r\n"
        worker.drain(time.monotonic() + WAIT)
        assert idle.recv(100) == b""
        assert worker.alive
        half.send(b"cd\r\n")
        assert half.recv(100) == b"STORED\r\n"
        assert half.recv(100) == b""
    assert worker.join(WAIT)


def test_drain_ends_at_its_deadline(make_worker: Any) -> None:
    worker = make_worker()
    with connect(worker) as half:
        half.send(b"get a\r\nset k 0 0 4\r\nab")
        assert half.recv(100) == b"END\r\n"
        worker.drain(time.monotonic() + 0.05)
        assert worker.join(WAIT)
        assert half.recv(100) == b""


def test_failing_housekeeping_is_reported_once_and_serving_goes_on(
    make_worker: Any, caplog: pytest.LogCaptureFixture
) -> None:
    errors: list[BaseException] = []
    failed_twice = threading.Event()
    calls: list[int] = []

    def task() -> None:
        calls.append(1)
        if len(calls) == 3:
            failed_twice.set()
        raise ValueError("broken on purpose")

    worker = make_worker(housekeeping=[(0.001, task)], on_error=errors.append)
    assert failed_twice.wait(WAIT)
    with connect(worker) as client:
        client.send(b"get a\r\n")
        assert client.recv(100) == b"END\r\n"
    assert [str(error) for error in errors] == ["broken on purpose"]
    assert "worker test failed" in caplog.text
