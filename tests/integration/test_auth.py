"""Logging in: the same words as memcached's -Y, replies in step, the users' file, what a stranger can hold.

Knows: the text protocol from outside. A login here is a list of pieces, each sent when the reply to the one
before it is here: memcached 1.6 loses replies of strangers that pipeline (see below), this server does not.
"""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.integration.test_lifecycle import not_memcached, one_line, wait_for
from tests.servers import HOST, Server, bare_command, command, free_port, reference, run_to_end, serving
from tests.wire import Wire

USERS = b"alice:secret\nbob:pass word\ncarol:\nco:lon:s\r\nlast:one\n"
STORED, FAILED = b"STORED", b"CLIENT_ERROR authentication failure"
STRANGER, NO_SPACE = b"CLIENT_ERROR unauthenticated", b"CLIENT_ERROR bad authentication token format"
README = Path(__file__).resolve().parents[2] / "README.md"


def login(token: bytes, line: bytes = b"set auth 0 0 %d") -> bytes:
    return line % len(token) + b"\r\n" + token + b"\r\n"


ALICE = login(b"alice secret")

# name -> pieces, each with one line of reply
EXCHANGES: dict[str, list[bytes]] = {
    "the right password": [ALICE, b"version\r\n"],
    "the right password after wrong ones": [login(b"alice wrong"), login(b"bob secret"), ALICE],
    "an unknown user": [login(b"dave secret"), ALICE],
    "a prefix of the password": [login(b"alice secre"), ALICE],
    "a longer password": [login(b"alice secrets"), ALICE],
    "another user's password": [login(b"alice pass"), ALICE],
    "a password with a colon": [login(b"co lon:s")],
    "the last user": [login(b"last one")],
    "no space": [login(b"alice"), ALICE],
    "a NUL for the space": [login(b"alice\0secret"), ALICE],
    "an empty token": [login(b""), ALICE],
    "any key, flags, exptime": [login(b"alice secret", b"set x y z %d")],
    "tokens behind the length": [login(b"alice secret", b"set a 0 0 %d and more")],
    "noreply": [login(b"alice secret", b"set a 0 0 %d noreply")],
    "several spaces in the line": [login(b"alice secret", b"set  a   0 0  %d  ")],
    "a leading zero in the length": [login(b"alice secret", b"set a 0 0 0%d")],
    "a line that ends with LF only": [b"set a 0 0 12\nalice secret\r\n"],
    "a block that ends with LF only": [b"set a 0 0 12\r\nalice secret\nx", ALICE],
    "a block that is longer than told": [b"set a 0 0 12\r\nalice secretxx", ALICE],
    "a negative length": [b"set a 0 0 -1\r\n", ALICE],
    "a length of text": [b"set a 0 0 x\r\n", ALICE],
    "a length with text behind it": [b"set a 0 0 12x\r\n", ALICE],
    "no length": [b"set a 0 0\r\n", ALICE],
    "set alone": [b"set\r\n", ALICE],
    "SET": [b"SET a 0 0 12\r\n", ALICE],
    "add": [b"add a 0 0 12\r\n", ALICE],
    "sets": [b"sets a 0 0 12\r\n", ALICE],
    "meta set": [b"ms a 12\r\n", ALICE],
    "get": [b"get a\r\n", ALICE],
    "a long get": [b"get " + b"a " * 1000 + b"\r\n", ALICE],
    "version": [b"version\r\n", ALICE, b"version\r\n"],
    "quit": [b"quit\r\n", ALICE],
    "stats": [b"stats\r\n", ALICE],
    "shutdown": [b"shutdown\r\n", ALICE],
    "flush_all": [b"flush_all\r\n", ALICE],
    "an unknown command": [b"nonsense\r\n", ALICE],
    "an empty line": [b"\r\n", ALICE],
    "a web browser": [b"GET / HTTP/1.1\r\n", ALICE],
    "the binary protocol": [b"\x80\x00\x00\x00\n", ALICE],
    "a line of 2048 bytes": [b"x" * 2046 + b"\r\n", ALICE],
    "a set once in is a set": [ALICE, b"set a 0 0 12\r\nalice secret\r\n", b"incr a 1\r\n", b"delete a\r\n"],
    "a large block of one word": [login(b"x" * 900), ALICE],
    "a large block of two words": [login(b"alice " + b"x" * 5000), ALICE],
}

TOKENS = "1.6.45 takes all behind the first space for the password; 1.6.18 takes the token's second word"
# name -> pieces, this server's replies (the first line of each), why they differ from 1.6.18's
DIFFERENT: dict[str, tuple[list[bytes], list[bytes], str]] = {
    "a password with a space": ([login(b"bob pass word")], [STORED], TOKENS),
    "a word behind the password": ([login(b"alice secret x")], [FAILED], TOKENS),
    "two spaces": ([login(b"alice  secret")], [FAILED], TOKENS),
    "a leading space": ([login(b" alice secret")], [FAILED], TOKENS),
    "an empty password": ([login(b"carol ")], [STORED], TOKENS),
    "a leading space in the line": (
        [b" set a 0 0 12\r\nalice secret\r\n"],
        [STRANGER],
        "1.6.45 takes a leading space for an empty command; 1.6.18 skips it",
    ),
    "a plus sign in the length": (
        [b"set a 0 0 +12\r\nalice secret\r\n"],
        [STRANGER],
        "1.6.45 reads numbers more strictly: digits only",
    ),
}


@pytest.fixture(scope="module")
def users(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("auth") / "users"
    path.write_bytes(USERS)
    return path


@pytest.fixture(scope="module")
def guarded(users: Path) -> Iterator[Server]:
    with serving("-Y", str(users)) as server:
        yield server


@pytest.fixture(scope="module")
def pair(guarded: Server, users: Path) -> Iterator[list[Server]]:
    with ExitStack() as stack:
        yield [guarded, stack.enter_context(reference("-Y", str(users)))]


def replies(server: Server, pieces: list[bytes]) -> list[bytes]:
    """Send the pieces, each when the reply to the one before it is here; the version is left out."""
    with server.connect(timeout=5) as wire:
        return [re.sub(rb"^VERSION .*", b"VERSION", wire.ask(piece)) for piece in pieces]


@pytest.mark.parametrize("name", EXCHANGES)
def test_strangers_get_the_replies_of_memcached(name: str, pair: list[Server]) -> None:
    ours, theirs = (replies(server, EXCHANGES[name]) for server in pair)
    assert ours == theirs


@pytest.mark.parametrize("name", DIFFERENT)
def test_what_1_6_45_does_otherwise(name: str, pair: list[Server]) -> None:
    pieces, expected, _reason = DIFFERENT[name]
    assert replies(pair[0], pieces) == expected
    assert replies(pair[1], pieces) != expected


def test_a_line_without_an_end_closes_the_connection(pair: list[Server]) -> None:
    for server in pair:
        for line in (b"x" * 2049, b"get " + b"k" * 2045, b"set " + b" " * 3000):
            with server.connect(timeout=5) as wire:
                wire.send(line)
                assert wire.read_to_end() == b""
        with server.connect(timeout=5) as wire:
            wire.send(b"x" * 2048)
            assert wire.ask(b"\r\n") == STRANGER


def test_every_request_of_a_stranger_that_pipelines_is_answered(guarded: Server) -> None:
    # memcached 1.6 answers the last of them only, and its clients lose step.
    sent = (
        b"get a\r\n" + login(b"alice x") + b"version\r\n" + login(b"alice") + ALICE + b"set a 0 0 1\r\nx\r\n"
    )
    with guarded.connect() as wire:
        wire.send(sent + b"get a\r\n")
        found = [wire.read_line() for _ in range(9)]
    assert found == [STRANGER, FAILED, STRANGER, NO_SPACE, STORED, STORED, b"VALUE a 0 1", b"x", b"END"]


def test_a_login_in_pieces_of_one_byte(guarded: Server) -> None:
    with guarded.connect() as wire:
        for sent in (login(b"alice wrong"), ALICE):
            for at in range(len(sent)):
                wire.send(sent[at : at + 1])
        assert [wire.read_line() for _ in range(2)] == [FAILED, STORED]


def test_nothing_of_a_stranger_is_stored(guarded: Server) -> None:
    with guarded.connect() as wire:
        assert wire.ask(login(b"not me", b"set key 0 0 %d")) == FAILED
        assert wire.ask(ALICE) == STORED
        assert wire.get(b"key") is None
        assert wire.get(b"auth") is None


def test_logins_are_counted(guarded: Server) -> None:
    with guarded.connect() as wire:
        wire.ask(ALICE)
        before = wire.stats()
        failed = [login(b"alice x"), login(b"alice " + b"x" * 2000), b"get a\r\n", login(b"alice")]
        for piece in failed:
            replies(guarded, [piece])
        replies(guarded, [ALICE])
        after = wire.stats()
    grown = {name: int(after[name]) - int(before[name]) for name in ("auth_cmds", "auth_errors", "cmd_set")}
    assert grown == {"auth_cmds": 3, "auth_errors": 2, "cmd_set": 0}


def test_a_stranger_makes_the_server_hold_a_few_kilobytes_at_most(guarded: Server) -> None:
    def held(insider: Wire) -> int:
        found = insider.stats()
        names = ("conn_carry_bytes", "conn_pending_bytes", "conn_pinned_bytes", "conn_bytes")
        return sum(int(found[name]) for name in names)

    with ExitStack() as stack:
        insider = stack.enter_context(guarded.connect())
        assert insider.ask(ALICE) == STORED
        before = held(insider)
        floods = (b"\n" * 300_000, login(b"alice x") * 20_000, b"set a 0 0 1000\r\n" + b"x" * 900)
        strangers = 8
        for flood in floods:
            for _ in range(strangers):
                wire = stack.enter_context(guarded.connect(receive_buffer=4096))
                wire.socket.setblocking(False)
                for _ in range(100):
                    try:
                        wire.socket.send(flood)
                    except BlockingIOError:
                        break
                    if len(flood) < 2000:
                        break
        most = 8 << 10
        assert insider.ask(b"version\r\n").startswith(b"VERSION")
        for _ in range(20):
            assert held(insider) - before < len(floods) * strangers * most


def test_a_unix_socket_is_guarded_too(users: Path, tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    with Server(bare_command("-s", path, "-Y", str(users)), path) as server:
        assert replies(server, [b"get a\r\n", ALICE, b"delete a\r\n"]) == [STRANGER, STORED, b"NOT_FOUND"]


def test_settings_name_the_file(guarded: Server, users: Path) -> None:
    with guarded.connect() as wire:
        wire.ask(ALICE)
        settings = wire.stats(b"settings")
    assert (settings["auth_enabled_ascii"], settings["binding_protocol"]) == (str(users), "ascii")


@not_memcached
def test_ping_says_that_a_guarded_server_is_well(guarded: Server) -> None:
    assert isinstance(guarded.address, tuple)
    done = run_to_end([sys.executable, "-m", "cacheserver", "ping", f"{HOST}:{guarded.address[1]}"])
    assert (done.returncode, done.stderr) == (0, "")


@not_memcached
def test_sighup_reads_the_users_again_and_a_broken_file_changes_nothing(tmp_path: Path) -> None:
    users = tmp_path / "users"
    users.write_bytes(b"alice:secret\n")
    with serving("-Y", str(users)) as server, server.connect() as before:
        assert before.ask(ALICE) == STORED
        told = len(server.errors().splitlines())

        def hup(lines: int) -> str:
            server.signal(signal.SIGHUP)
            assert wait_for(lambda: len(server.errors().splitlines()) == told + lines, 5)
            return server.errors().splitlines()[-1]

        users.write_bytes(b"dave:other\n")
        assert "loaded again" in hup(1)
        assert replies(server, [ALICE, login(b"dave other")]) == [FAILED, STORED]
        assert before.get(b"a") is None, "who is in stays in"
        users.write_bytes(b"erin:more\nno colon\n")
        assert "line 2 is not user:password" in hup(2)
        users.unlink()
        assert "No such file" in hup(3)
        assert replies(server, [login(b"erin more"), login(b"dave other")]) == [FAILED, STORED]


@not_memcached
def test_sighup_without_anything_to_load_is_noted() -> None:
    with serving() as server:
        server.signal(signal.SIGHUP)
        assert wait_for(lambda: "nothing to load" in server.errors(), 5)
        with server.connect() as wire:
            assert wire.ask(b"version\r\n").startswith(b"VERSION")


@not_memcached
@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, "No such file"),
        (b"", "no user"),
        (b"alice\n", "line 1"),
        (b"alice:secret\n\nbob:x\n", "line 2"),
        (b"# the users\nalice:secret\n", "line 1"),
        (b"alice:" + b"x" * 250 + b"\n", "longer than 254"),
        (b"al\0ice:secret\n", "line 1"),
    ],
    ids=["missing", "empty", "no colon", "blank line", "comment", "long line", "NUL"],
)
def test_a_bad_file_of_users_is_one_line_and_status_1(
    content: bytes | None, why: str, tmp_path: Path
) -> None:
    users = tmp_path / "users"
    if content is not None:
        users.write_bytes(content)
    done = run_to_end(command(free_port(), "-Y", str(users)))
    assert done.returncode == 1
    assert one_line(done.stderr), done.stderr
    assert f"-Y {users}: " in done.stderr
    assert why in done.stderr


@not_memcached
def test_a_pipe_for_a_file_of_users_does_not_hold_up_the_start(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    subprocess.run(["mkfifo", str(pipe)], check=True)
    done = run_to_end(command(free_port(), "-Y", str(pipe)), timeout=10)
    assert done.returncode == 1
    assert one_line(done.stderr), done.stderr


@not_memcached
def test_more_users_than_memcached_takes_are_named(tmp_path: Path) -> None:
    users = tmp_path / "users"
    users.write_bytes(b"".join(b"user%d:x\n" % number for number in range(9)))
    with serving("-Y", str(users)) as server:
        assert replies(server, [login(b"user8 x"), login(b"user7 x")]) == [FAILED, STORED]
        assert "first 8 users" in server.errors()


def test_a_file_may_end_without_a_line_end(tmp_path: Path) -> None:
    users = tmp_path / "users"
    users.write_bytes(b"alice:secret")  # 1.6.18 loses the last byte of this password
    with serving("-Y", str(users)) as server:
        assert replies(server, [ALICE]) == [STORED]


@not_memcached
def test_strangers_do_not_hold_up_the_end(users: Path) -> None:
    with serving("-Y", str(users)) as server:
        strangers = [server.connect() for _ in range(4)]
        assert all(wire.ask(b"get a\r\n") == STRANGER for wire in strangers)
        server.signal(signal.SIGTERM)
        assert [wire.read_to_end() for wire in strangers] == [b""] * 4
        assert server.wait(1) == 0


@not_memcached
def test_the_example_in_the_readme_works(tmp_path: Path) -> None:
    text = README.read_text().partition("## Logins")[2].partition("\n## ")[0]
    start, talk = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    port = free_port()
    make_file, _, server_line = start.strip().rpartition("\n")
    subprocess.run(["bash", "-c", make_file], cwd=tmp_path, check=True)
    (users,) = tmp_path.iterdir()
    assert users.stat().st_mode & 0o077 == 0
    flags = server_line.split("cacheserver", 1)[1].split()
    flags = [str(users) if flag == users.name else flag for flag in flags]
    with Server(command(port, *flags), (HOST, port)):
        shown = subprocess.run(
            ["bash", "-c", talk.replace("11211", str(port))],
            cwd=tmp_path,
            capture_output=True,
            timeout=10,
            check=True,
        )
    assert shown.stdout == b"STORED\r\nSTORED\r\nVALUE greeting 0 5\r\nhello\r\nEND\r\n"
