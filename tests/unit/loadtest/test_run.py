"""Whole loads on a server that misbehaves: what is kept, and what a person is told."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from errno import ECONNREFUSED
from itertools import count
from pathlib import Path

import pytest

from loadtest.address import LoadError, connected
from loadtest.results import Counters, Histogram, Second
from loadtest.run import prefill, run, saturated, silence
from loadtest.worker import edges, share
from loadtest.workload import Load, Workload
from tests.unit.loadtest.fake import FakeServer

SMALL = Workload(keys=50, value_size="range:1-200", popularity="uniform", verify=True)


def test_a_load_is_counted_second_by_second() -> None:
    seen: list[Second] = []
    with FakeServer() as server:
        filled = prefill(server.address, SMALL, Load(connections=3, processes=2))
        assert (filled.total.sets, filled.total.stored, filled.complete) == (50, 50, True)
        load = Load(connections=4, processes=2, warmup=0.5, seconds=1.5)
        result = run(server.address, SMALL, load, seen.append)
    assert result.complete
    assert tuple(seen) == result.seconds
    assert [second.warmup for second in seen] == [True, False, False]
    assert all(0 <= second.at - due < 10 for second, due in zip(seen, (0.5, 1.5, 2.0), strict=True))
    assert result.elapsed == pytest.approx(seen[-1].at - seen[0].at)
    total = result.total
    assert total.requests == sum(second.counters.requests for second in seen[1:])
    assert total.requests == result.latency.total() == result.service.total() == total.gets + total.sets > 0
    assert total.hits == total.gets
    assert (total.wrong, total.errors, total.refused, result.problem) == (0, 0, 0, "")


def test_one_flipped_byte_is_a_wrong_value() -> None:
    spoiled: list[bytes] = []

    def twist(line: bytes, reply: bytes) -> bytes:
        if reply.startswith(b"VALUE") and not spoiled:
            spoiled.append(line)
            return reply[:-8] + bytes([reply[-8] ^ 1]) + reply[-7:]
        return reply

    with FakeServer(twist) as server:
        prefill(server.address, SMALL, Load(connections=1))
        result = run(server.address, SMALL, Load(connections=2, seconds=0.5))
    assert result.total.wrong == len(spoiled) == 1
    assert result.problem.startswith("1 values are not what this workload sets")
    assert result.total.hits > 1


def test_read_through_sets_what_is_missing_after_the_back_end_has_answered() -> None:
    workload = SMALL._replace(
        keys=10, get_share=1.0, fill=True, backend_ms=30.0, multiget=2, popularity="scan"
    )
    with FakeServer() as server:
        result = run(server.address, workload, Load(connections=1, seconds=1.0))
    total = result.total
    assert total.misses == 10  # each key once
    assert total.fills == total.stored == 10
    assert total.hits > 0
    assert total.sets == result.sets.total() == 0


@pytest.mark.parametrize("rate", [0.0, 40.0])
def test_gets_and_sets_have_latencies_of_their_own(rate: float) -> None:
    def twist(line: bytes, reply: bytes) -> bytes:
        time.sleep(0.05 if reply == b"STORED\r\n" else 0.0)
        return reply

    workload = SMALL._replace(get_share=0.8)
    with FakeServer(twist) as server:
        result = run(server.address, workload, Load(connections=1, warmup=0.5, seconds=2.0, rate=rate))
    total = result.total
    assert (result.sets.total(), result.gets.total()) == (total.sets, total.gets)
    assert total.sets > 0
    assert result.sets.min() >= 49_900  # to 3 digits
    assert result.gets.min() < 25_000 < 50_000 <= result.latency.max()


def test_a_server_that_dies_leaves_what_was_measured() -> None:
    answered = 0

    def twist(line: bytes, reply: bytes) -> bytes | None:
        nonlocal answered
        answered += 1
        return reply if answered < 500 else None

    with FakeServer(twist) as server:
        result = run(server.address, SMALL, Load(connections=1, seconds=60, patience=0.2))
    assert not result.complete
    assert result.problem.startswith("the server closed all connections at ")
    assert result.total.requests == 498  # one more was the probe
    assert result.total.errors == 1  # asked, and never answered
    assert result.elapsed < 30


def test_errors_and_refusals_are_counted_and_the_first_is_shown() -> None:
    def twist(line: bytes, reply: bytes) -> bytes:
        return b"SERVER_ERROR out of memory\r\n" if reply == b"STORED\r\n" else reply

    with FakeServer(twist) as server:
        result = run(server.address, SMALL, Load(connections=1, seconds=0.3))
    assert result.complete
    assert result.total.refused == result.total.sets > 0
    assert result.total.stored == 0
    assert "SERVER_ERROR out of memory" in result.problem


def test_nonsense_ends_the_load_with_what_was_said() -> None:
    answered = 0

    def twist(line: bytes, reply: bytes) -> bytes:
        nonlocal answered
        answered += 1
        return reply if answered < 100 else b"WAT 1 2\r\n"

    with FakeServer(twist) as server:
        result = run(server.address, SMALL, Load(connections=1, seconds=60))
    assert not result.complete
    assert "'WAT 1 2'" in result.problem
    assert result.total.requests == 98


def test_a_server_that_falls_silent_is_no_success() -> None:
    """A closed loop asks nothing of a server that does not answer: its figures alone look fine."""
    over = threading.Event()
    answered = 0

    def twist(line: bytes, reply: bytes) -> bytes:
        nonlocal answered
        answered += 1
        if answered > 100:
            over.wait(60)
        return reply

    with FakeServer(twist) as server:
        result = run(server.address, SMALL, Load(connections=1, seconds=2.0))
        over.set()
    assert result.total.requests == 99
    assert not result.complete
    assert "answered nothing in the last" in result.problem


def test_one_connection_that_is_never_answered_shows_while_the_others_go_on() -> None:
    over = threading.Event()
    answered = count()

    def twist(line: bytes, reply: bytes) -> bytes:
        if next(answered) == 100:
            over.wait(60)
        return reply

    with FakeServer(twist) as server:
        result = run(server.address, SMALL, Load(connections=3, processes=2, seconds=2.0))
        over.set()
    assert result.total.requests > 200
    assert not result.complete
    assert "a request still waited for its reply after" in result.problem


@pytest.mark.parametrize(
    ("load", "backend", "lasted"),
    [
        (Load(), 0, 2.0),
        (Load(), 1500, 0),
        (Load(rate=1.0), 0, 0),
        (Load(rate=1.0, steps=((1.0, 50.0),)), 0, 2),
    ],
)
def test_silence_is_what_should_have_been_answered(load: Load, backend: float, lasted: float) -> None:
    asked = [
        Second(float(at), Counters(requests=at < 3), Histogram(), Histogram(), 0, False)
        for at in (1, 2, 3, 4)
    ]
    assert silence(asked, SMALL._replace(backend_ms=backend), load) == lasted
    assert silence(asked[:2], SMALL, load) == 0


def test_a_generator_without_pauses_is_said_to_be_what_was_measured() -> None:
    closed = Load(connections=2, processes=2)
    assert saturated([0.99, 0.97], closed).startswith("the load generator itself was busy 98% of the time")
    assert "--processes 4 " in saturated([0.99, 0.97], closed)
    assert saturated([0.99, 0.7], closed) == ""
    assert saturated([0.99], closed._replace(rate=100.0)) == ""
    assert saturated([], closed) == ""


def test_a_rate_that_is_not_reached_is_said() -> None:
    def twist(line: bytes, reply: bytes) -> bytes:
        time.sleep(0.02)
        return reply

    with FakeServer(twist) as server:
        result = run(
            server.address, SMALL, Load(connections=1, seconds=1.0, rate=1000.0, steps=((0.1, 100.0),))
        )
    assert result.complete
    assert result.problem.startswith("the rate was not reached: ")


def test_a_name_stands_for_all_its_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as localhost, of which ::1 comes first on many machines, and the server listens at 127.0.0.1."""
    with FakeServer() as server, socket.create_server(("127.0.0.1", 0)) as taken:
        port = int(server.address.rpartition(":")[2])
        dead = taken.getsockname()[1]
        taken.close()
        both = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", each)) for each in (dead, port)]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_named: both)
        assert run(f"twice:{port}", SMALL, Load(connections=1, seconds=0.1)).total.requests > 0


def test_connections_are_opened_anew_where_that_is_asked_for() -> None:
    with FakeServer() as server:
        result = run(server.address, SMALL, Load(connections=2, seconds=0.5, churn=10))
    assert result.total.errors == 0
    assert result.total.reconnects == pytest.approx(result.total.requests / 10, abs=3)


def test_a_staircase_opens_and_closes_connections() -> None:
    load = Load(connections=1, seconds=1.0, steps=((0.3, 6), (0.6, 2)))
    most = 0
    with FakeServer() as server:
        result = run(server.address, SMALL, load)
        most = len(server._open)
    assert result.complete
    assert most == 1 + 6  # the probe's, too


def test_connections_that_cannot_be_opened_are_told() -> None:
    """A churn that has used up the ports of this machine would else be taken for a slow server."""
    answered = count()

    def twist(line: bytes, reply: bytes) -> bytes:
        if next(answered) == 20:
            server._listener.shutdown(socket.SHUT_RDWR)
            server._listener.close()
        return reply

    with FakeServer(twist) as server:
        result = run(server.address, SMALL, Load(connections=1, seconds=0.6, steps=((0.3, 3),)))
    assert (result.complete, result.total.errors) == (True, 0)
    assert result.problem.endswith(f"one could not be opened ({os.strerror(ECONNREFUSED)})")


def test_a_trace_is_asked_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "trace"
    path.write_text("".join(f"0 {key % 7} {100 + key % 7}\n" for key in range(1000)))
    workload = Workload(trace=str(path), get_share=1.0, fill=True, verify=True)
    with FakeServer() as server:
        result = run(server.address, workload, Load(connections=1, seconds=60))
    assert result.complete
    assert result.total.requests == 1000
    assert (result.total.misses, result.total.fills) == (7, 7)


def test_a_damaged_trace_is_told_and_what_was_measured_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "trace"
    path.write_text("".join(f"0 {key} 1\n" for key in range(70_000)) + "1 x 3\n")
    with FakeServer() as server:
        result = run(server.address, Workload(trace=f"sized:{path}"), Load(connections=1, seconds=60))
    assert not result.complete
    assert "line 70001 is not of the form sized" in result.problem
    assert result.total.requests > 0


@pytest.mark.parametrize(
    ("words", "content", "said"),
    [
        ("lines:{}", b"\0\1\2\3", "there is no request in"),
        ("sized:{}", b"1\n2\n", "line 1 is not of the form sized"),
        ("{}", b"\0\1\2\3", "say whether it is of the form int32 or int64"),
        ("zipf:keys=0", b"", "keys=0 is out of range"),
    ],
)
def test_what_is_no_trace_is_said_before_the_load(
    tmp_path: Path, words: str, content: bytes, said: str
) -> None:
    path = tmp_path / "trace"
    path.write_bytes(content)
    with FakeServer() as server, pytest.raises(LoadError, match=f"^trace: .*{said}"):
        run(server.address, Workload(trace=words.format(path)), Load(seconds=60))


def test_a_load_whose_trace_does_not_come_can_be_stopped(tmp_path: Path) -> None:
    path = tmp_path / "trace"
    os.mkfifo(path)
    began = time.monotonic()
    with FakeServer() as server:
        result = run(server.address, Workload(trace=f"lines:{path}"), Load(seconds=60), stop=lambda: True)
    assert result.problem.startswith("stopped at ")
    assert time.monotonic() - began < 40


def test_a_load_can_be_stopped() -> None:
    seen: list[Second] = []
    with FakeServer() as server:
        result = run(server.address, SMALL, Load(seconds=600), seen.append, lambda: len(seen) > 0)
    assert not result.complete
    assert result.problem.startswith("stopped at ")
    assert result.total.requests > 0


@pytest.mark.parametrize(
    "address", ["nowhere", ":1", "localhost:", "localhost:99999", "x:y", "/" + "a" * 200]
)
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(LoadError, match=r"\A[^\n]+\Z"):
        connected(address)


def test_nobody_there_another_protocol_and_silence_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
        monkeypatch.setattr("loadtest.address.TIMEOUT", 0.2)
        with pytest.raises(LoadError, match="does not answer within"):
            run(address, SMALL, Load())
        free.accept()[0].close()  # the probe before
        thread = threading.Thread(target=lambda: free.accept()[0].sendall(b"-ERR unknown command\r\n"))
        thread.start()
        with pytest.raises(LoadError, match="does not speak text"):
            run(address, SMALL, Load())
        thread.join()
    with pytest.raises(LoadError, match="is a server running there"):
        run(address, SMALL, Load())
    with pytest.raises(LoadError, match="keys: 0"):
        run(address, SMALL._replace(keys=0), Load())


@pytest.mark.parametrize(
    "said", [b"CLIENT_ERROR unauthenticated\r\n", b"-NOAUTH Authentication required.\r\n"]
)
def test_a_login_that_is_wanted_is_said(said: bytes) -> None:
    with FakeServer(lambda line, reply: said) as server, pytest.raises(LoadError, match="wants a login"):
        run(server.address, SMALL, Load())


def test_more_connections_than_open_files_are_said_before_the_load(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resource.getrlimit", lambda _what: (100, 100))
    with FakeServer() as server:
        with pytest.raises(
            LoadError, match=r"150 connections needs 182 open files.*allows 100.*--processes 4"
        ):
            run(server.address, SMALL, Load(connections=300, processes=2))
        assert run(server.address, SMALL, Load(connections=60, seconds=0.1)).complete


def test_the_warm_up_ends_at_the_end_of_a_second() -> None:
    load = Load(warmup=1.5, seconds=2.25)
    assert list(edges(load, False)) == [
        (1.0, True),
        (1.5, True),
        (2.5, False),
        (3.5, False),
        (3.75, False),
    ]
    assert [share(10, index, 3) for index in range(3)] == [3, 3, 4]


def test_what_ends_a_program_is_kept_from_the_processes_of_the_load_from_their_start_on() -> None:
    program = (
        "import multiprocessing, sys\n"
        "from loadtest.run import run\n"
        "from loadtest.workload import Load, Workload\n"
        "def look(second):\n"
        "    for child in multiprocessing.active_children():\n"
        "        print(open(f'/proc/{child.pid}/status').read().split('SigBlk:')[1].split()[0])\n"
        "run(sys.argv[1], Workload(), Load(seconds=0.2, processes=2), look)\n"
    )
    with FakeServer() as server:
        argv = [sys.executable, "-c", program, server.address]
        said = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True).stdout
    kept = sum(1 << number - 1 for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP))
    assert [int(mask, 16) & kept for mask in said.split()] == [kept, kept]


def test_an_interrupted_load_keeps_what_was_measured() -> None:
    """Ctrl-C comes as a KeyboardInterrupt wherever the parent is; here in its callback."""
    seen: list[Second] = []

    def interrupt(second: Second) -> None:
        seen.append(second)
        if len(seen) == 1:
            raise KeyboardInterrupt

    with FakeServer() as server:
        result = run(server.address, SMALL, Load(seconds=600, processes=2), interrupt)
    assert not result.complete
    assert result.problem.startswith("interrupted at ")
    assert result.total.requests > 0
    assert result.elapsed < 60
