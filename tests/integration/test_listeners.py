"""Every kind of listening socket at once, the limit of connections, and who is idle."""

from __future__ import annotations

import contextlib
import stat
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.servers import HOST, REPLACEMENT, Server, bare_command, free_port, run_to_end, serving
from tests.udp import Udp
from tests.wire import Wire, readable

not_memcached = pytest.mark.skipif("memcached" in REPLACEMENT, reason="memcached does this in its own way")


def wait_for(condition: Callable[[], bool], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


@not_memcached
def test_one_process_serves_tcp_unix_and_udp_at_once(tmp_path: Path) -> None:
    path, port, other = str(tmp_path / "socket"), free_port(), free_port()
    addresses = f"{HOST},notls:127.0.0.2:{other}"
    argv = bare_command(
        "-s", path, "-a", "0640", "-l", addresses, "-p", str(port), "-U", str(port), "-t", "2"
    )
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(Server(argv, (HOST, port)))
        wires = [stack.enter_context(Wire(each)) for each in ((HOST, port), ("127.0.0.2", other), path)]
        clients = [stack.enter_context(Udp((host, port))) for host in (HOST, "127.0.0.2")]
        assert stat.S_IMODE(Path(path).stat().st_mode) == 0o640
        wires[0].set(b"key", b"value")
        for wire in wires:
            assert wire.get(b"key") == b"value"
        for udp in clients:
            assert udp.ask(b"get key\r\n") == b"VALUE key 0 5\r\nvalue\r\nEND\r\n"
        told = server.errors().partition("listening on ")[2].partition(", 2 workers")[0]
        assert told.split(", ") == [
            f"{HOST}:{port}",
            f"127.0.0.2:{other}",
            path,
            f"{HOST}:{port} (UDP)",
            f"127.0.0.2:{port} (UDP)",
        ]
        settings = wires[0].stats(b"settings")
        assert (settings["inter"], settings["domain_socket"]) == (addresses, path)
        assert (settings["tcpport"], settings["udpport"]) == (str(port), str(port))
        server.signal(15)
        assert server.wait(3) == 0
        assert not Path(path).exists()


@not_memcached
def test_a_socket_that_cannot_be_had_leaves_none_behind(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "socket"
    assert isinstance(server.address, tuple)
    taken = str(server.address[1])
    done = run_to_end(bare_command("-s", str(path), "-l", f"{HOST}:{free_port()}", "-l", f"{HOST}:{taken}"))
    assert (done.returncode, len(done.stderr.strip().splitlines())) == (1, 1)
    assert taken in done.stderr
    assert not path.exists()


def test_without_maxconns_fast_a_client_waits_until_another_leaves() -> None:
    with serving("-c", "20", "-o", "no_maxconns_fast") as server, contextlib.ExitStack() as stack:
        witness = stack.enter_context(server.connect())
        assert witness.stats(b"settings")["maxconns_fast"] == "no"
        wires = [stack.enter_context(server.connect()) for _ in range(30)]
        for wire in wires:
            wire.send(b"version\r\n")
        wait_for(lambda: witness.stats()["accepting_conns"] == "0")
        stats = witness.stats()
        assert stats["rejected_connections"] == "0"
        assert int(stats["listen_disabled_num"]) == 1
        served = readable(wires, 0.2)
        assert 0 < len(served) < 20
        waiting = [wire for wire in wires if wire not in served]
        while waiting:
            for wire in served:
                assert wire.read_line().startswith(b"VERSION ")
                wire.close()
            served = readable(waiting, 5)
            assert served
            waiting = [wire for wire in waiting if wire not in served]
        wait_for(lambda: witness.stats()["accepting_conns"] == "1")
        after = witness.stats()
        assert int(after["time_in_listen_disabled_us"]) > 0
        assert int(after["listen_disabled_num"]) >= 1


def test_with_maxconns_fast_a_client_is_refused() -> None:
    with serving("-c", "20", "-o", "maxconns_fast") as server, contextlib.ExitStack() as stack:
        witness = stack.enter_context(server.connect())
        assert witness.stats(b"settings")["maxconns_fast"] == "yes"
        wires = [stack.enter_context(server.connect()) for _ in range(30)]
        assert wires[-1].read_line() == b"ERROR Too many open connections"
        stats = witness.stats()
        assert (stats["accepting_conns"], stats["listen_disabled_num"]) == ("1", "0")
        assert int(stats["rejected_connections"]) >= 10


@not_memcached
def test_idle_clients_are_closed_whatever_they_wait_for_and_slow_ones_are_not() -> None:
    with serving("-o", "idle_timeout=1") as server, contextlib.ExitStack() as stack:
        active, silent, half, line, bare = (stack.enter_context(server.connect()) for _ in range(5))
        deaf = stack.enter_context(server.connect(receive_buffer=4096))
        active.set(b"large", b"x" * 900_000)
        silent.ask(b"version\r\n")
        half.send(b"set half 0 0 500000\r\n" + b"x" * 100_000)
        line.send(b"get lar")
        deaf.send(b"get large\r\n" * 20)
        began = time.monotonic()
        closed: dict[str, float] = {}
        others = {"silent": silent, "half": half, "line": line, "bare": bare}
        while len(closed) < len(others) or active.stats()["curr_connections"] != "1":
            assert active.ask(b"version\r\n").startswith(b"VERSION "), "an active client is not idle"
            for name, wire in others.items():
                if name not in closed and readable([wire], 0):
                    assert wire.read_to_end() == b""
                    closed[name] = time.monotonic() - began
            assert time.monotonic() - began < 10
            time.sleep(0.15)
        assert all(0.9 < seconds < 4 for seconds in closed.values()), closed
        stats = active.stats()
        assert stats["idle_kicks"] == "5"
        for name in ("store_reserved", "conn_pinned_bytes", "conn_carry_bytes", "conn_pending_bytes"):
            assert stats[name] == "0", name
