"""UDP over real sockets: frames, replies of several datagrams, their cap, and input that means no good."""

from __future__ import annotations

import contextlib
import random
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.requirements import missing
from tests.servers import HOST, REPLACEMENT, Server, bare_command, free_port, reference_command, run_to_end
from tests.udp import Udp, frame
from tests.wire import Wire

pytestmark = pytest.mark.skipif(bool(REPLACEMENT), reason="its own command line has UDP off")
HOSTILE = 2000  # datagrams


def free_udp_port(host: str = HOST) -> int:
    """Return a UDP port that nobody listens on at the moment."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def serving_udp(*flags: str, host: str = HOST) -> Iterator[tuple[Server, tuple[str, int]]]:
    """Run the server with UDP beside TCP; yield it and the UDP address."""
    port, udp = free_port(host), free_udp_port(host)
    argv = bare_command("-l", host, "-p", str(port), "-U", str(udp), *flags)
    with Server(argv, (host, port)) as server:
        yield server, (host, udp)


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[Server, tuple[str, int]]]:
    with serving_udp("-t", "2") as found:
        yield found


@pytest.fixture
def wire(served: tuple[Server, tuple[str, int]]) -> Iterator[Wire]:
    with served[0].connect() as wire:
        assert wire.ask(b"flush_all\r\n") == b"OK"
        yield wire


@pytest.fixture
def udp(served: tuple[Server, tuple[str, int]], wire: Wire) -> Iterator[Udp]:
    with Udp(served[1]) as client:
        yield client


def test_what_one_transport_stores_the_other_reads(udp: Udp, wire: Wire) -> None:
    assert udp.ask(b"set key 5 0 5\r\nvalue\r\n") == b"STORED\r\n"
    assert wire.get(b"key") == b"value"
    assert wire.set(b"key", b"other") == b"STORED"
    assert udp.ask(b"get key\r\n") == b"VALUE key 0 5\r\nother\r\nEND\r\n"


def test_several_requests_of_a_datagram_are_answered_together(udp: Udp, wire: Wire) -> None:
    stores = b"set a 0 0 1 noreply\r\nx\r\nset n 0 0 1\r\n7\r\n"
    others = b"incr n 3\r\nget a none\r\nverbosity 0\r\ndelete a\r\n"
    assert udp.ask(stores + others) == b"STORED\r\n10\r\nVALUE a 0 1\r\nx\r\nEND\r\nOK\r\nDELETED\r\n"


def test_a_large_reply_comes_in_several_datagrams(udp: Udp, wire: Wire) -> None:
    value = random.Random(1).randbytes(5000)
    assert udp.ask(b"set key 0 0 5000\r\n%b\r\n" % value) == b"STORED\r\n"
    parts = udp.ask_parts(b"get key\r\n")
    assert [len(part) for part in parts[:-1]] == [1392] * 3
    assert b"".join(parts) == b"VALUE key 0 5000\r\n%b\r\nEND\r\n" % value


def test_a_reply_beyond_four_datagrams_is_one_line_instead(udp: Udp, wire: Wire) -> None:
    wire.set(b"large", b"x" * 5600)
    wire.set(b"small", b"x" * 1000)
    refusal = b"SERVER_ERROR reply too large for UDP, use TCP\r\n"
    before = int(wire.stats()["udp_replies_too_large"])
    for request in (
        b"get large",
        b"get" + b" small" * 6,
        b"get small large small",
        b"get small\r\nget large",
    ):
        assert udp.ask_parts(request + b"\r\n") == [refusal]
    assert int(wire.stats()["udp_replies_too_large"]) == before + 4
    assert udp.ask(b"get small\r\n") == b"VALUE small 0 1000\r\n%b\r\nEND\r\n" % (b"x" * 1000)


def test_stats_fit_into_a_reply(udp: Udp, wire: Wire) -> None:
    for request in (b"stats\r\n", b"stats settings\r\n"):
        lines = udp.ask(request).split(b"\r\n")
        assert lines[-2:] == [b"END", b""]
        assert all(line.startswith(b"STAT ") for line in lines[:-2])


@pytest.mark.parametrize(
    ("request_text", "reply"),
    [
        (b"set key 0 0 10\r\nabc", b"CLIENT_ERROR bad data chunk\r\n"),
        (b"set key 0 0 10\r\n0123456789", b"CLIENT_ERROR bad data chunk\r\n"),
        (b"set key 0 0 10\r\n", b"CLIENT_ERROR bad data chunk\r\n"),
        (b"append key 0 0 100000\r\nabc", b"CLIENT_ERROR bad data chunk\r\n"),
        (b"set key 0 0 3\r\nabcdefg\r\n", b"CLIENT_ERROR bad data chunk\r\nERROR\r\n"),
        (b"get key", b"CLIENT_ERROR bad command line format\r\n"),
        (b"get key\r\nget key", b"VALUE key 0 3\r\nold\r\nEND\r\nCLIENT_ERROR bad command line format\r\n"),
        (b"get " + b"key " * 5000, b"CLIENT_ERROR bad command line format\r\n"),
        (b"set key 0 0", b"CLIENT_ERROR bad command line format\r\n"),
        (b"get key\r\nquit\r\nget key\r\n", b"VALUE key 0 3\r\nold\r\nEND\r\n"),
        (b"get key\r\n\x80binary", b"VALUE key 0 3\r\nold\r\nEND\r\n"),
        (b"nonsense\r\n", b"ERROR\r\n"),
        (b"watch\r\nget key\r\n", b"ERROR\r\nVALUE key 0 3\r\nold\r\nEND\r\n"),
        (b"get key\r\nwatch\r\nstats conns\r\n", b"VALUE key 0 3\r\nold\r\nEND\r\n" + 2 * b"ERROR\r\n"),
        (b"\r\n", b"CLIENT_ERROR bad command line format\r\n"),
    ],
)
def test_unfinished_and_malformed_requests(request_text: bytes, reply: bytes, udp: Udp, wire: Wire) -> None:
    wire.set(b"key", b"old")
    assert udp.ask(request_text) == reply
    assert wire.get(b"key") == b"old"
    assert wire.stats()["store_reserved"] == "0"


def test_a_value_beyond_the_limit_is_refused_as_over_tcp(udp: Udp, wire: Wire) -> None:
    wire.set(b"key", b"old")
    assert udp.ask(b"set key 0 0 2000000\r\nabc") == b"SERVER_ERROR object too large for cache\r\n"
    assert wire.get(b"key") is None


SILENT = {
    "too short": b"\0\1\0\0\0\1\0",
    "nothing but a header": frame(b""),
    "two datagrams": frame(b"set key 0 0 3\r\nnew\r\n", count=2),
    "no datagram": frame(b"set key 0 0 3\r\nnew\r\n", count=0),
    "a later part": frame(b"set key 0 0 3\r\nnew\r\n", sequence=1),
    "text without a header": b"set key 0 0 3\r\nnew\r\n",
    "binary": frame(b"\x80\x01" + bytes(22)),
    "quit": frame(b"quit\r\nset key 0 0 3\r\nnew\r\n"),
    "a browser": frame(b"POST / HTTP/1.1\r\nset key 0 0 3\r\nnew\r\n"),
    "another server's error": frame(b"ERROR\r\nset key 0 0 3\r\nnew\r\n"),
}


@pytest.mark.parametrize("name", SILENT)
def test_what_is_no_request_is_dropped_silently_and_counted(name: str, udp: Udp, wire: Wire) -> None:
    wire.set(b"key", b"old")
    before = wire.stats()
    udp.send(SILENT[name])
    assert udp.ask(b"get key\r\n") == b"VALUE key 0 3\r\nold\r\nEND\r\n"  # the first that is answered
    after = wire.stats()
    assert int(after["udp_datagrams"]) == int(before["udp_datagrams"]) + 2
    assert int(after["udp_datagrams_dropped"]) == int(before["udp_datagrams_dropped"]) + 1
    assert int(after["bytes_read"]) - int(before["bytes_read"]) >= len(SILENT[name]) + 17


def test_noreply_is_not_answered(udp: Udp, wire: Wire) -> None:
    udp.send(frame(b"set key 0 0 3 noreply\r\nnew\r\n"))
    udp.send(frame(b"set key 0 0 300 noreply\r\nunfinished"))
    assert udp.ask(b"get key\r\n") == b"VALUE key 0 3\r\nnew\r\nEND\r\n"


def test_the_same_frames_as_memcached(udp: Udp, wire: Wire) -> None:
    """But for several requests in a datagram: there memcached sends several replies under one number."""
    port, other = free_port(), free_udp_port()
    argv = [*reference_command(port), "-U", str(other)]
    value = random.Random(2).randbytes(5000)
    requests = (
        b"set key 7 0 5000\r\n%b\r\n" % value,
        b"get key\r\n",
        b"incr none 1\r\n",
        b"nonsense\r\n",
        b"set key 0 0 3 noreply\r\nabc\r\ngets none\r\n",
    )
    with Server(argv, (HOST, port)), Udp((HOST, other)) as memcached:
        for request in requests:
            assert udp.ask_parts(request) == memcached.ask_parts(request)


def test_both_workers_answer(served: tuple[Server, tuple[str, int]], wire: Wire) -> None:
    """The kernel deals clients to the workers; of 40 clients one gets all of them once in 2**39 times."""
    server, address = served
    wire.set(b"key", b"value")
    busy = server_threads(server)
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Udp(address)) for _ in range(40)]
        for _ in range(10):
            for client in clients:
                assert client.ask(b"get key\r\n") == b"VALUE key 0 5\r\nvalue\r\nEND\r\n"
    woken = [name for name, switches in server_threads(server).items() if switches - busy[name] >= 20]
    assert len(woken) >= 2


def server_threads(server: Server) -> dict[str, int]:
    """How often each thread of the server has waited for something, by its number."""
    found = {}
    for task in Path(f"/proc/{server.pid}/task").iterdir():
        fields = dict(line.split(":", 1) for line in (task / "status").read_text().splitlines())
        found[task.name] = int(fields["voluntary_ctxt_switches"])
    return found


def test_ipv6() -> None:
    try:
        free_udp_port("::1")
    except OSError:
        missing("this system has no IPv6")
    with serving_udp(host="::1") as (_, address), Udp(address) as udp:
        assert udp.ask(b"set key 0 0 1\r\nx\r\nget key\r\n") == b"STORED\r\nVALUE key 0 1\r\nx\r\nEND\r\n"


def test_udp_alone() -> None:
    port = free_udp_port()
    with (
        Server(bare_command("-p", "0", "-U", str(port), "-t", "1"), None) as server,
        Udp((HOST, port)) as udp,
    ):
        while f"{HOST}:{port} (UDP), 1 worker;" not in server.errors():
            assert server.running()
            time.sleep(0.01)
        assert udp.ask(b"version\r\n").startswith(b"VERSION ")


def test_a_taken_udp_port_is_one_line_and_status_1(served: tuple[Server, tuple[str, int]]) -> None:
    _, (host, port) = served
    done = run_to_end(bare_command("-l", host, "-p", "0", "-U", str(port), "-t", "2"))
    assert done.returncode == 1
    assert len(done.stderr.strip().splitlines()) == 1
    assert f"{host}:{port}" in done.stderr


WORDS = (
    b"get set gets gat add cas incr decr delete touch append prepend mg ms md ma me mn stats verbosity "
    b"version quit noreply flush_all HTTP/1.1 key k2 v S T0 0 1 -1 10 5000 100000 2000000 "
    b"99999999999999999999 \r\n \n \r\n\r\n \x80 \0 \xff"
).split(b" ")


def hostile(dice: random.Random) -> bytes:
    """One datagram: a good or bad header before words of the protocol or before noise."""
    if dice.random() < 0.7:
        words = [dice.choice(WORDS) for _ in range(dice.randrange(1, 40))]
        text = b" ".join(words) + dice.choice((b"\r\n", b"\n", b""))
    elif dice.random() < 0.5:
        text = dice.randbytes(dice.choice((0, 1, 7, 100, 1400, 60_000)))
    else:
        size = dice.choice((1, 3000, 5000, 50_000, 1_000_000))
        sent = dice.randrange(min(size, 60_000) + 1)
        noreply = dice.choice((b"", b" noreply"))
        text = b"set k%d 0 0 %d%b\r\n%b\r\n" % (dice.randrange(9), size, noreply, b"v" * sent)
        text += b"get k1 k2 k3\r\n" * dice.randrange(200)
    if dice.random() < 0.2:
        return dice.randbytes(dice.randrange(10)) + text
    return frame(text[:65_000], number=dice.randrange(1 << 16), reserved=dice.choice((0, 0xFFFF)))


def wait_for_version(address: tuple[str, int]) -> None:
    """Ask until there is an answer: the kernel may drop what comes while the server is behind."""
    for _ in range(20):
        with contextlib.suppress(TimeoutError), Udp(address, timeout=1) as other:
            assert other.ask(b"version\r\n").startswith(b"VERSION ")
            return
    raise AssertionError("the server answers no more")


def test_hostile_datagrams_do_no_harm(udp: Udp, wire: Wire) -> None:
    dice = random.Random(20)
    for number in range(HOSTILE):
        udp.send(hostile(dice))
        if number % 20 == 0:  # wait until it has been received, so that the kernel drops none
            udp.drain()
            wait_for_version(udp.socket.getpeername())
    assert wire.ask(b"flush_all\r\n") == b"OK"
    with Udp(udp.socket.getpeername()) as fresh:
        assert fresh.ask(b"set key 0 0 1\r\nx\r\n") == b"STORED\r\n"
    assert wire.get(b"key") == b"x"
    stats = wire.stats()
    assert int(stats["udp_datagrams"]) > HOSTILE // 2
    for name in ("store_reserved", "conn_pinned_bytes", "conn_carry_bytes", "conn_pending_bytes"):
        assert stats[name] == "0", name
