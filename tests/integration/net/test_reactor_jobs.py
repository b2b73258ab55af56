"""Commands that answer with a job: the connection is the job's until it gives it back."""

from __future__ import annotations

import resource
import socket
import threading
import time
from collections.abc import Callable

import pytest

from cacheserver.desk import BUSY, NO_THREAD, PLACES, Desk, JobOf, Kind, Stream
from tests.integration.net.conftest import Rig

PATIENCE = 10.0
pytestmark = pytest.mark.parametrize("make_rig", ["plain", "tls"], indirect=True)


class Jobs:
    """A handler whose only command is a job, and the place where the jobs run."""

    def __init__(self, make_rig: Callable[..., Rig], job: Callable[[Stream], object], most: int = 8) -> None:
        self.desk = Desk({Kind.OTHER: most})
        self.rig = make_rig(on_job=self.desk.take)
        self.rig.engine.handler = lambda line: job if line == b"job" else b"%b!\r\n" % line


def test_what_follows_a_job_waits_for_its_end(make_rig: Callable[..., Rig]) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def job(stream: Stream) -> None:
        begun.set()
        assert go_on.wait(PATIENCE)
        stream.send(b"JOB\r\n")

    rig = Jobs(make_rig, job).rig
    client, other = rig.connect(), rig.connect()
    rig.send(client, b"get a\r\njob\r\nget b\r\n")
    assert begun.wait(PATIENCE)
    rig.send(client, b"stats\r\n")
    rig.ask(other, b"get a\r\n", b"END\r\n")
    go_on.set()
    expected = b"END\r\nJOB\r\nEND\r\nstats!\r\n"
    assert rig.read(client, len(expected)) == expected
    rig.ask(client, b"get a\r\n", b"END\r\n")


def test_a_job_waits_for_a_slow_reader_and_sends_every_byte(make_rig: Callable[..., Rig]) -> None:
    data = bytes(range(256)) * 65536
    rig = Jobs(make_rig, lambda stream: stream.send(data)).rig
    client = rig.connect(rcvbuf=65536)
    rig.send(client, b"job\r\n")
    assert rig.read(client, len(data)) == data
    rig.ask(client, b"get a\r\n", b"END\r\n")
    assert rig.reactor.counters()["bytes_written"] == len(data) + len(b"END\r\n")


def test_a_client_that_does_not_read_is_given_up(make_rig: Callable[..., Rig]) -> None:
    rig = Jobs(make_rig, lambda stream: stream.send(bytes(64 << 20), patience=0.2)).rig
    client = rig.connect(rcvbuf=65536)
    rig.send(client, b"job\r\n")
    rig.pump(lambda: rig.reactor.connections == 0)
    client.close()


def test_a_client_that_reads_too_slowly_is_given_up(make_rig: Callable[..., Rig]) -> None:
    lost = threading.Event()

    def job(stream: Stream) -> None:
        try:
            for _ in range(100_000):
                stream.send(bytes(1000), patience=1.0)
        except ConnectionError:
            lost.set()
            raise

    rig = Jobs(make_rig, job).rig
    client = rig.connect(rcvbuf=4096, sndbuf=4096)
    rig.send(client, b"job\r\n")
    deadline = time.monotonic() + PATIENCE
    while not lost.wait(0.05):  # 2 KiB each time: something is always taken, and never 64 KiB in a second
        assert time.monotonic() < deadline
        rig.read(client, 2048)
    rig.pump(lambda: rig.reactor.connections == 0)


def test_time_in_which_a_job_has_nothing_to_send_is_not_its_client_s(make_rig: Callable[..., Rig]) -> None:
    def job(stream: Stream) -> None:
        for _ in range(4):
            stream.gone(0.3)
            stream.send(b"JOB\r\n", patience=0.5)

    rig = Jobs(make_rig, job).rig
    rig.ask(rig.connect(), b"job\r\nget a\r\n", b"JOB\r\n" * 4 + b"END\r\n")


@pytest.mark.parametrize("end", ["close", "reset", "shut_wr"])
def test_a_job_learns_that_its_client_hung_up(make_rig: Callable[..., Rig], end: str) -> None:
    def job(stream: Stream) -> None:
        while not stream.gone(PATIENCE):
            pass
        learned.set()

    learned = threading.Event()
    rig = Jobs(make_rig, job).rig
    client = rig.connect()
    rig.send(client, b"job\r\n")
    if end == "reset":
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    if end == "shut_wr":
        client.shutdown(socket.SHUT_WR)
    else:
        client.close()
    rig.pump(learned.is_set)
    rig.pump(lambda: rig.reactor.connections == 0)


def test_closing_the_reactor_ends_its_jobs(make_rig: Callable[..., Rig]) -> None:
    ended = threading.Event()

    def job(stream: Stream) -> None:
        try:
            while True:
                stream.send(bytes(1 << 20))
        finally:
            ended.set()

    jobs = Jobs(make_rig, job)
    client = jobs.rig.connect(rcvbuf=65536)
    jobs.rig.send(client, b"job\r\n")
    jobs.rig.reactor.close()
    assert ended.wait(PATIENCE)
    assert jobs.desk.join(PATIENCE)


def test_idle_time_and_drain_leave_a_job_alone(make_rig: Callable[..., Rig]) -> None:
    go_on = threading.Event()

    def job(stream: Stream) -> None:
        assert go_on.wait(PATIENCE)
        stream.send(b"JOB\r\n")

    desk = Desk()
    rig = make_rig(on_job=desk.take, idle_timeout=1)
    rig.engine.handler = lambda line: job
    client = rig.connect()
    rig.send(client, b"job\r\n")
    for now in (0, 1, 2, 3):
        rig.reactor.sweep(now)
    rig.reactor.drain()
    assert rig.reactor.connections == 1
    go_on.set()
    assert rig.read_to_end(client) == b"JOB\r\n"
    assert rig.reactor.drained


def test_a_job_that_fails_costs_its_connection_only(
    make_rig: Callable[..., Rig], caplog: pytest.LogCaptureFixture
) -> None:
    def job(stream: Stream) -> None:
        raise ValueError("what now")

    rig = Jobs(make_rig, job).rig
    client, other = rig.connect(), rig.connect()
    rig.send(client, b"job\r\n")
    assert rig.read_to_end(client) == b""
    rig.ask(other, b"get a\r\n", b"END\r\n")
    assert "a job failed" in caplog.text


def test_too_many_jobs_are_turned_away(make_rig: Callable[..., Rig]) -> None:
    go_on = threading.Event()
    rig = Jobs(make_rig, lambda stream: go_on.wait(PATIENCE), most=1).rig
    first, second = rig.connect(), rig.connect()
    rig.send(first, b"job\r\n")
    rig.send(second, b"job\r\nget a\r\n")
    expected = BUSY + b"END\r\n"
    assert rig.read(second, len(expected)) == expected
    go_on.set()
    rig.ask(first, b"get a\r\n", b"END\r\n")


def test_jobs_of_one_kind_leave_the_others_their_places(make_rig: Callable[..., Rig]) -> None:
    go_on = threading.Event()
    desk = Desk()
    rig = make_rig(on_job=desk.take)
    waiting = JobOf(Kind.LISTING, lambda stream: go_on.wait(PATIENCE))
    rig.engine.handler = lambda line: waiting if line == b"list" else lambda stream: stream.send(b"JOB\r\n")
    clients = [rig.connect() for _ in range(PLACES[Kind.LISTING] + 1)]
    for client in clients:
        rig.send(client, b"list\r\n")
    assert rig.read(clients[-1], len(BUSY)) == BUSY
    rig.ask(clients[-1], b"job\r\n", b"JOB\r\n")
    go_on.set()


def test_no_reply_is_lost_where_a_client_that_is_turned_away_does_not_read(
    make_rig: Callable[..., Rig],
) -> None:
    count = 20_000
    rig = Jobs(make_rig, lambda stream: None, most=0).rig
    client = rig.connect(rcvbuf=4096, sndbuf=4096)
    rig.send(client, b"job\r\n" * count + b"get a\r\n")
    assert rig.reactor.counters()["pending_bytes"] < 1000, "what is not begun is not answered either"
    expected = BUSY * count + b"END\r\n"
    assert rig.read(client, len(expected)) == expected


def test_a_job_without_a_thread_or_a_file_descriptor_is_refused_in_step(
    make_rig: Callable[..., Rig], monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_left(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    rig = Jobs(make_rig, lambda stream: stream.send(b"JOB\r\n"), most=1).rig
    client = rig.connect()
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", none_left)
        rig.ask(client, b"get a\r\njob\r\nget b\r\n", b"END\r\n" + NO_THREAD + b"END\r\n")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        reply = b"END\r\nSERVER_ERROR out of file descriptors\r\nEND\r\n"
        rig.ask(client, b"get a\r\njob\r\nget b\r\n", reply)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    rig.ask(client, b"job\r\nget b\r\n", b"JOB\r\nEND\r\n")


def test_without_anybody_to_run_it_a_job_is_an_error(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig()
    rig.engine.handler = lambda line: lambda stream: None
    client = rig.connect()
    rig.ask(client, b"job\r\nget a\r\n", b"ERROR\r\nEND\r\n")
