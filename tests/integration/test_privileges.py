"""What a server started as root keeps and gives up, and how a daemon's starter learns of a failure."""

from __future__ import annotations

import os
import pwd
import resource
import signal
import sys
from pathlib import Path

import pytest

from tests.servers import HOST, REPLACEMENT, Server, bare_command, command, free_port, run_to_end, serving

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give it up"),
    pytest.mark.skipif(bool(REPLACEMENT), reason="about this server's own order of things"),
]
NOBODY = pwd.getpwnam("nobody")


def status(pid: int, field: str) -> list[str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(line for line in lines if line.startswith(field + ":")).split()[1:]


def test_root_is_given_up_after_a_protected_port_is_bound() -> None:
    with Server(bare_command("-p", "1023", "-u", "nobody"), (HOST, 1023)) as server:
        assert status(server.pid, "Uid") == [str(NOBODY.pw_uid)] * 4
        assert status(server.pid, "Gid") == [str(NOBODY.pw_gid)] * 4
        assert status(server.pid, "Groups") == []
        for thread in Path(f"/proc/{server.pid}/task").iterdir():
            assert f"Uid:\t{NOBODY.pw_uid}" in (thread / "status").read_text()


def test_the_unix_socket_is_the_new_users(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with Server(bare_command("-s", str(path), "-u", str(NOBODY.pw_uid)), str(path)):
        assert path.stat().st_uid == NOBODY.pw_uid


def test_an_unknown_user_is_one_line_and_status_1() -> None:
    done = run_to_end(command(free_port(), "-u", "no-such-user"))
    assert done.returncode == 1
    assert done.stderr.startswith("cacheserver: -u no-such-user: there is no such user; give ")
    assert done.stderr.count("\n") == 1


def test_root_without_a_new_user_is_allowed() -> None:
    with serving() as server:
        assert status(server.pid, "Uid") == ["0"] * 4


def with_files(soft: int, hard: int, *argv: str) -> list[str]:
    return ["prlimit", f"--nofile={soft}:{hard}", *argv]


def test_the_connection_limit_raises_that_of_open_files() -> None:
    port = free_port()
    with Server(with_files(100, 4096, *command(port, "-c", "2000")), (HOST, port)) as server:
        assert 2000 < resource.prlimit(server.pid, resource.RLIMIT_NOFILE)[0] <= 4096


def test_more_connections_than_files_are_refused_in_one_line() -> None:
    unprivileged = ["setpriv", "--bounding-set", "-sys_resource"]  # root, but for its right to more
    done = run_to_end(with_files(100, 4096, *unprivileged, *command(free_port(), "-c", "5000")))
    assert done.returncode == 1
    assert done.stderr.startswith("cacheserver: -c 5000 needs ")
    assert "the system allows 4096" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_daemons_failure_reaches_its_starter(tmp_path: Path) -> None:
    with serving() as server:
        assert isinstance(server.address, tuple)
        assert run_to_end(command(server.address[1], "-d")).returncode == 1
    done = run_to_end(command(free_port(), "-d", "-P", str(tmp_path / "absent" / "pid")))
    assert done.returncode == 1
    assert done.stderr.startswith("cacheserver: -P ")


def test_the_starter_returns_when_the_daemon_listens_and_leaves_the_terminal(tmp_path: Path) -> None:
    port, pid_file = free_port(), tmp_path / "pid"
    done = run_to_end(command(port, "-d", "-P", str(pid_file)))
    assert done.returncode == 0, done.stderr
    pid = int(pid_file.read_text())
    try:
        ping = run_to_end([sys.executable, "-m", "cacheserver", "ping", f"{HOST}:{port}"])
        assert ping.returncode == 0, ping.stderr
        assert {os.readlink(f"/proc/{pid}/fd/{stream}") for stream in (0, 1, 2)} == {os.devnull}
        assert os.readlink(f"/proc/{pid}/cwd") == "/"
    finally:
        os.kill(pid, signal.SIGTERM)


@pytest.mark.parametrize("address", ["x:y", "x:0", "no\nsuch:1"])
def test_ping_refuses_a_bad_address_in_one_line(address: str) -> None:
    done = run_to_end([sys.executable, "-m", "cacheserver", "ping", address])
    assert done.returncode == 1
    assert done.stderr.startswith("cacheserver ping: ")
    assert done.stderr.count("\n") == 1


def test_ping_fails_in_one_line_where_nobody_answers() -> None:
    done = run_to_end([sys.executable, "-m", "cacheserver", "ping", f"{HOST}:{free_port()}"])
    assert done.returncode == 1
    assert done.stderr.startswith("cacheserver ping: ")
    assert done.stderr.count("\n") == 1
