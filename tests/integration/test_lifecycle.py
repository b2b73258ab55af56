"""Starting, stopping and the flags of the server, seen from outside: signals, statuses, one-line errors.

Knows: the command line in memcached's terms. Statuses: 0 ended as asked, 1 the host refuses, 2 bad usage.
"""

from __future__ import annotations

import json
import os
import random
import re
import signal
import socket
import stat
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.servers import (
    HOST,
    REPLACEMENT,
    Server,
    bare_command,
    command,
    free_port,
    reference,
    run_to_end,
    serving,
)
from tests.wire import Wire

MIB = 1 << 20
not_memcached = pytest.mark.skipif("memcached" in REPLACEMENT, reason="memcached does this in its own way")


def wait_for(condition: Callable[[], bool], seconds: float) -> bool:
    """Ask `condition` until it holds; False when `seconds` have passed."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def refuses(server: Server) -> bool:
    """Whether nobody accepts at the server's address any more."""
    try:
        server.connect(timeout=1).close()
    except ConnectionRefusedError:
        return True
    except OSError:
        return False
    return False


@not_memcached
def test_sigterm_stops_accepting_and_answers_what_is_in_flight() -> None:
    with serving("-t", "2") as server:
        wires = [server.connect() for _ in range(8)]
        idle = server.connect()
        for wire in wires:
            wire.send(b"set key 0 0 10\r\n12345")
        assert idle.ask(b"version\r\n").startswith(b"VERSION ")
        started = time.monotonic()
        server.signal(signal.SIGTERM)
        assert wait_for(lambda: refuses(server), 1.0)
        for wire in wires:
            wire.send(b"67890\r\n")
        for wire in wires:
            assert wire.read_line() == b"STORED"
            assert wire.read_to_end() == b""
        assert idle.read_to_end() == b""
        assert server.wait(5) == 0
        assert time.monotonic() - started < 2.0


@not_memcached
def test_version_is_answered_while_the_server_drains() -> None:
    """Proxies and cluster clients take a server that resets a probe for a broken one."""
    with serving("-t", "2") as server:
        asking = [server.connect() for _ in range(4)]
        half = server.connect()
        half.send(b"set key 0 0 10\r\n12345")
        server.signal(signal.SIGTERM)
        assert wait_for(lambda: refuses(server), 1.0)
        for wire in asking * 3:
            assert wire.ask(b"version\r\n").startswith(b"VERSION ")
        half.send(b"67890\r\nversion\r\n")
        assert half.read_line() == b"STORED"
        assert half.read_line().startswith(b"VERSION ")
        for wire in (*asking, half):
            assert wire.read_to_end() == b""
        assert server.wait(5) == 0


@not_memcached
def test_sigterm_does_not_wait_for_clients_that_never_finish() -> None:
    with serving() as server:
        half = server.connect()
        half.send(b"set key 0 0 10\r\n12345")
        silent = server.connect(receive_buffer=4096)
        silent.set(b"large", b"v" * 1_000_000)
        silent.send(b"get large large large large large large large large\r\n")
        assert silent.read_line().startswith(b"VALUE large")
        started = time.monotonic()
        server.signal(signal.SIGTERM)
        assert server.wait(5) == 0
        assert time.monotonic() - started < 2.0


@not_memcached
def test_sigterm_finishes_a_reply_that_is_being_read() -> None:
    value = random.Random(5).randbytes(1_000_000)
    with serving() as server, server.connect(receive_buffer=65536) as wire:
        wire.set(b"large", value)
        wire.send(b"get large\r\n")
        assert wire.read_line() == b"VALUE large 0 1000000"
        server.signal(signal.SIGTERM)
        assert wire.read_exactly(1_000_007) == value + b"\r\nEND\r\n"
        assert server.wait(5) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_an_idle_server_with_status_0(number: int) -> None:
    with serving() as server:
        server.signal(number)
        assert server.wait(2) == 0
        assert "Traceback" not in server.errors()


@not_memcached
def test_the_start_is_told_in_one_line() -> None:
    with serving("-t", "2") as server:
        assert isinstance(server.address, tuple)
        told = (server.output() + server.errors()).splitlines()
        assert len(told) == 1
        for word in (f"{HOST}:{server.address[1]}", "2 workers", "reserve"):
            assert word in told[0]


def one_line(text: str) -> bool:
    return len(text.strip().splitlines()) == 1 and "Traceback" not in text


@not_memcached
def test_a_taken_port_is_one_line_and_status_1(server: Server) -> None:
    assert isinstance(server.address, tuple)
    done = run_to_end(command(server.address[1]))
    assert done.returncode == 1
    assert one_line(done.stderr), done.stderr
    assert str(server.address[1]) in done.stderr


@not_memcached
@pytest.mark.parametrize("address", ["192.0.2.1", "no.such.host.invalid"])
def test_a_wrong_address_is_one_line_and_status_1(address: str) -> None:
    done = run_to_end(bare_command("-l", address, "-p", str(free_port())))
    assert done.returncode == 1
    assert one_line(done.stderr), done.stderr
    assert address in done.stderr


@not_memcached
def test_a_recording_grows_while_the_server_runs_and_is_whole_when_it_ends(tmp_path: Path) -> None:
    path = tmp_path / "timeline"

    def lines() -> list[str]:
        return path.read_text().splitlines()

    with serving("--record", str(path)) as server:
        assert wait_for(lambda: len(lines()) >= 2, 10)
        server.signal(signal.SIGTERM)
        assert server.wait(5) == 0
    looks = [json.loads(line) for line in lines()]
    assert looks[0]["t"] == 0 < looks[-1]["t"]
    assert all(look["readings"] and look["decision"]["binding"] != "none" for look in looks)


@not_memcached
def test_a_recording_that_cannot_be_made_is_one_line_and_status_1(tmp_path: Path) -> None:
    path = tmp_path / "nowhere" / "timeline"
    done = run_to_end(command(free_port(), "--record", str(path)))
    assert done.returncode == 1
    assert one_line(done.stderr), done.stderr
    assert f"--record {path}: No such file" in done.stderr


@not_memcached
@pytest.mark.parametrize(
    "flags",
    [
        ["--no-such-flag"],
        ["-t", "many"],
        ["-t", "0"],
        ["-p", "70000"],
        ["-c", "0"],
        ["-I", "10"],
        ["-I", "2x"],
        ["-I", "2g"],
        ["-a", "999"],
        ["-k"],
        ["-S"],
        ["-e", "/tmp/memory"],
        ["-B", "binary"],
        ["--cluster", ""],
        ["--cluster", "one,two|three"],
        ["--cluster", "one:0"],
    ],
    ids=" ".join,
)
def test_a_bad_flag_is_one_line_and_status_2(flags: list[str]) -> None:
    done = run_to_end(command(free_port(), *flags))
    assert done.returncode == 2
    assert one_line(done.stderr), done.stderr
    assert flags[0] in done.stderr


@not_memcached
def test_flags_about_size_are_accepted_and_named_once() -> None:
    with serving("-m", "64", "-f", "1.1", "-n", "100", "-L", "-o", "slab_reassign,hashpower=20") as server:
        lines = [line for line in server.errors().splitlines() if "ignored" in line]
        assert len(lines) == 1
        for flag in ("-m", "-f", "-n", "-L", "hashpower"):
            assert flag in lines[0]


def test_the_version_flag() -> None:
    done = run_to_end(bare_command("-V"))
    assert done.returncode == 0
    assert re.fullmatch(r"\S+ \d+\.\d+\.\d+\s*", done.stdout)


def test_the_help_flag_names_the_flags() -> None:
    done = run_to_end(bare_command("-h"))
    assert done.returncode == 0
    for flag in ("-p", "-l", "-t", "-c", "-I", "-s"):
        assert flag in done.stdout


@pytest.mark.parametrize(("flags", "mode"), [([], 0o700), (["-a", "0770"], 0o770), (["-a", "777"], 0o777)])
def test_a_unix_socket(flags: list[str], mode: int, tmp_path: Path) -> None:
    path = tmp_path / "socket"
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(str(path))  # what a killed server leaves behind
    stale.close()
    with Server(bare_command("-s", str(path), *flags), str(path)) as server, server.connect() as wire:
        assert stat.S_IMODE(path.stat().st_mode) == mode
        value = random.Random(6).randbytes(900_000)
        assert wire.set(b"key", value) == b"STORED"
        assert wire.get(b"key") == value
        wire.close()
        server.signal(signal.SIGTERM)
        assert server.wait(3) == 0


def test_several_addresses() -> None:
    port, port6 = free_port(), free_port("::1")
    flags = ("-l", f"{HOST}:{port}", "-l", f"127.0.0.2:{port}", "-l", f"[::1]:{port6}")
    with Server(bare_command(*flags), (HOST, port)) as server:
        with server.connect() as wire:
            wire.set(b"key", b"value")
        for address in (("127.0.0.2", port), ("::1", port6)):
            with Wire(address) as wire:
                assert wire.get(b"key") == b"value"


def test_several_addresses_in_one_flag() -> None:
    port = free_port()
    argv = bare_command("-p", str(port), "-l", f"{HOST},127.0.0.2,[::1]")
    with Server(argv, (HOST, port)):
        for host in (HOST, "127.0.0.2", "::1"):
            with Wire((host, port)) as wire:
                assert wire.ask(b"version\r\n").startswith(b"VERSION ")


@pytest.mark.parametrize("request_line", [b"shutdown\r\n", b"shutdown graceful\r\n"])
def test_shutdown_where_it_is_allowed(request_line: bytes) -> None:
    with serving("-A") as server, server.connect() as wire:
        wire.send(request_line)
        wire.read_to_end()
        assert server.wait(3) == 0


def test_flush_all_where_it_is_forbidden() -> None:
    with serving("-F") as server, server.connect() as wire:
        wire.set(b"key", b"value")
        assert wire.ask(b"flush_all\r\n") == b"CLIENT_ERROR flush_all not allowed"
        assert wire.ask(b"flush_all 10\r\n") == b"CLIENT_ERROR flush_all not allowed"
        assert wire.get(b"key") == b"value"


def test_without_cas_as_memcached_does_it() -> None:
    with serving("-C") as ours, reference("-C") as theirs:
        replies = []
        for server in (ours, theirs):
            with server.connect() as wire:
                wire.send(
                    b"set a 5 0 3\r\none\r\ngets a\r\nappend a 0 0 1\r\n!\r\ngets a\r\nget a\r\nversion\r\n"
                )
                replies.append(wire.read_until(b"VERSION ")[0])
        assert replies[0] == replies[1]


@pytest.mark.parametrize(("flag", "limit"), [("2m", 2 * MIB), ("3145728", 3 * MIB), ("512k", MIB // 2)])
def test_the_item_size_flag(flag: str, limit: int) -> None:
    # The limit counts the item's header and the key as well; -m is memcached's own, without meaning here.
    with serving("-I", flag, "-m", "1024") as server, server.connect() as wire:
        value = random.Random(7).randbytes(limit - 1024)
        assert wire.set(b"key", value) == b"STORED"
        assert wire.get(b"key") == value
        assert wire.set(b"key", b"x" * limit) == b"SERVER_ERROR object too large for cache"
        assert wire.get(b"key") is None
        assert wire.stats(b"settings")["item_size_max"] == str(limit)


def test_a_value_of_50_mib_comes_back_byte_for_byte() -> None:
    value = random.Random(8).randbytes(50 * MIB)
    with serving("-I", "64m", "-m", "1024") as server, server.connect(timeout=30) as wire:
        wire.set(b"small", b"before")
        assert wire.set(b"large", value) == b"STORED"
        wire.set(b"small", b"after")
        assert wire.get(b"large") == value
        found = wire.get_many([b"small", b"large", b"absent"])
        assert found == {b"small": b"after", b"large": value}
        assert wire.ask(b"delete large\r\n") == b"DELETED"
        assert wire.get(b"large") is None


def test_a_daemon_writes_its_pid_file(tmp_path: Path) -> None:
    port = free_port()
    pid_file = tmp_path / "pid"
    done = run_to_end(command(port, "-d", "-P", str(pid_file)))
    assert done.returncode == 0
    assert wait_for(lambda: pid_file.exists() and pid_file.read_text().strip().isdigit(), 10)
    pid = int(pid_file.read_text())
    try:
        assert wait_for(lambda: answers(port), 10)
    finally:
        os.kill(pid, signal.SIGTERM)
    assert wait_for(lambda: not Path(f"/proc/{pid}/cmdline").exists() or is_zombie(pid), 5)
    assert not pid_file.exists()


def answers(port: int) -> bool:
    try:
        with Wire((HOST, port), timeout=1) as wire:
            return wire.ask(b"version\r\n").startswith(b"VERSION ")
    except (OSError, EOFError):
        return False


def is_zombie(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"


def in_process(*lines: str) -> list[str]:
    """Return a command that runs a server's main program after `lines` of Python."""
    start = "from cacheserver import cli, server", "sys.exit(cli.main(sys.argv[1:]))"
    code = "\n".join(("import os, signal, sys", start[0], *lines, start[1]))
    return [sys.executable, "-c", code]


@not_memcached
@pytest.mark.parametrize(
    "moment", ["server.shard_count", "server.Housekeeping.start", "server.Server.summary"]
)
def test_sigterm_while_the_server_starts_ends_it_cleanly(moment: str, tmp_path: Path) -> None:
    pid_file, path = tmp_path / "pid", tmp_path / "socket"
    argv = in_process(
        f"then = {moment}",
        "def now(*arguments):",
        "    os.kill(os.getpid(), signal.SIGTERM)",
        "    return then(*arguments)",
        f"{moment} = now",
    )
    done = run_to_end([*argv, "-s", str(path), "-P", str(pid_file)], timeout=5)
    assert done.returncode == 0
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


@not_memcached
def test_another_cache_of_the_process_shares_the_servers_monitor() -> None:
    argv = in_process(
        "from cacheserver.pressure import default_monitor, register_shrinker",
        "register_shrinker('other', lambda target, hard: 0)",
        "then = server.Server.summary",
        "def summary(self):",
        "    self.stop()",
        "    return f'shared={self.monitor is default_monitor()} ' + then(self)",
        "server.Server.summary = summary",
    )
    done = run_to_end([*argv, "-l", HOST, "-p", str(free_port())], timeout=5)
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("shared=True ")


@not_memcached
def test_a_server_whose_words_nobody_can_read_serves_all_the_same() -> None:
    port = free_port()
    argv = ["sh", "-c", 'exec "$@" 2>/dev/full', "sh", *command(port)]
    with Server(argv, (HOST, port)) as server:
        server.signal(signal.SIGTERM)
        assert server.wait(3) == 0


@not_memcached
def test_a_daemon_whose_starter_has_closed_the_standard_streams(tmp_path: Path) -> None:
    port, pid_file = free_port(), tmp_path / "pid"
    argv = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *command(port, "-d", "-P", str(pid_file))]
    assert run_to_end(argv).returncode == 0
    pid = int(pid_file.read_text())
    try:
        assert answers(port)
        assert {os.readlink(f"/proc/{pid}/fd/{stream}") for stream in (0, 1, 2)} == {os.devnull}
    finally:
        os.kill(pid, signal.SIGTERM)
    assert wait_for(lambda: not pid_file.exists(), 5)


@not_memcached
@pytest.mark.parametrize(
    ("flags", "advice"),
    [
        (["-P", "/nonexistent/pid"], "folder"),
        (["-s", "/tmp"], "-s a path"),
        (["-s", "/nonexistent/socket"], "folder"),
        (["-l", "no\nsuch"], "-l"),
        (["-c", "4194304"], "fewer connections"),
    ],
    ids=lambda value: repr(value),
)
def test_what_the_host_refuses_is_one_line_that_says_what_to_do(flags: list[str], advice: str) -> None:
    done = run_to_end(bare_command("-p", str(free_port()), *flags))
    assert done.returncode == 1
    assert one_line(done.stderr), done.stderr
    assert advice in done.stderr
