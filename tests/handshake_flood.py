"""What a flood of handshakes costs plain clients: p99 beside 200 idle TLS neighbours, and 200 that flood.

Run as `python -m tests.handshake_flood [seconds]` (50; 35 at least), where nothing else runs; needs openssl,
starts the servers itself. It prints both p99s and their ratio, and ends with status 1 where the flood more
than doubles the p99.

Each p99 is the median of many short windows, in rounds that alternate: what else a shared machine does comes
in bursts of seconds, which are in some windows; the flood is in all of them.

There are two servers and both kinds of neighbours at any time; only who has which changes. So what the flood
costs by itself, and what a server does about it, are in both measurements, and what differs is whether that
server is the one under test.

Of the flood's clients half send garbage, again and again; the others begin a handshake that they never
finish, and begin anew when the server closes.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests.certificates import Certificates
from tests.servers import HOST, Server, command, free_port
from tests.wire import Wire

NEIGHBOURS = 200
CLIENTS = 8  # plain ones that are measured, one after the other
PAUSE = 0.001  # seconds between two of their requests
AGAIN = 0.1  # seconds after which a client of the flood that was closed comes again
ALLOWED = 2.0
ROUNDS = 10  # each has both measurements, every other one in the reverse order
WINDOW = 400  # requests of which a p99 is taken: half a second
SETTLE = 0.5  # seconds from the neighbours' arrival on
ARRIVAL = 0.5  # seconds that it takes, about
READY = b"ready\n"


def hello() -> bytes:
    """A ClientHello as the ssl module writes it."""
    context = ssl.create_default_context()
    outgoing = ssl.MemoryBIO()
    client = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="localhost")
    with contextlib.suppress(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


def flood(port: int) -> None:
    """Be clients that each say their word, and come again when closed."""
    words = [hello(), b"\x16\x03garbage or else\r\n", hello(), b"get a\r\n"] * (NEIGHBOURS // 4)
    poll = select.poll()
    clients: dict[int, tuple[socket.socket, bytes]] = {}
    begin = time.monotonic()
    due = [(begin + AGAIN * index / len(words), word) for index, word in enumerate(words)]
    told = False
    while True:
        now = time.monotonic()
        while due and due[0][0] <= now:
            word = due.pop(0)[1]
            client = socket.create_connection((HOST, port))
            with contextlib.suppress(ConnectionError):
                client.sendall(word)
            clients[client.fileno()] = client, word
            poll.register(client, select.POLLIN)
        if not told and now > begin + AGAIN:
            told = tell()
        for number, _ in poll.poll(10):
            client, word = clients[number]
            with contextlib.suppress(OSError):
                if client.recv(1 << 16):
                    continue
            poll.unregister(number)
            del clients[number]
            client.close()
            due.append((time.monotonic() + AGAIN, word))


def idle(port: int) -> None:
    """Be clients whose handshakes are done, and who say nothing any more."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    clients = []
    for _ in range(NEIGHBOURS):
        client = socket.create_connection((HOST, port))
        clients.append(context.wrap_socket(client))
    tell()
    signal.pause()


def tell() -> bool:
    """Let who has started this process know that its clients are there."""
    os.write(sys.stdout.fileno(), READY)
    return True


@contextlib.contextmanager
def neighbours(**ports: int) -> Iterator[None]:
    """Run idle() and flood(), as named, at these ports, in processes of their own; their clients are there
    when this returns."""
    program = [sys.executable, "-m", "tests.handshake_flood"]
    running = {
        kind: subprocess.Popen([*program, kind, str(port)], stdout=subprocess.PIPE)
        for kind, port in ports.items()
    }
    try:
        for kind, process in running.items():
            assert process.stdout is not None
            assert process.stdout.readline() == READY, f"the neighbours did not come: {kind}"
        yield
    finally:
        for process in running.values():
            process.kill()
            process.communicate()


class Pair:
    """A server with a TLS port and a plain one."""

    def __init__(self, made: Certificates, opened: contextlib.ExitStack) -> None:
        self.port, plain = free_port(), free_port()
        pair = f"ssl_chain_cert={made.server},ssl_key={made.server_key}"
        argv = command(self.port, "-l", f"notls:{HOST}:{plain}", "-Z", "-o", pair)
        self.server = opened.enter_context(Server(argv, (HOST, plain)))


def p99s(wires: list[Wire], seconds: float) -> list[float]:
    """For each window, milliseconds that one request in a hundred exceeds; one window at least."""
    found = []
    until = time.monotonic() + seconds
    while not found or time.monotonic() < until:
        times = []
        for _ in range(WINDOW // CLIENTS):
            for wire in wires:
                begin = time.perf_counter()
                assert wire.ask(b"get none\r\n") == b"END"
                times.append(time.perf_counter() - begin)
                time.sleep(PAUSE)
        found.append(1000 * sorted(times)[len(times) * 99 // 100])
    return found


def measure(seconds: float) -> float:
    """Return the ratio of the p99s; `seconds` for each of them, in each round."""
    quiet: list[float] = []
    flooded: list[float] = []
    with contextlib.ExitStack() as opened:
        made = Certificates(Path(opened.enter_context(tempfile.TemporaryDirectory())))
        tested, other = Pair(made, opened), Pair(made, opened)
        wires = [opened.enter_context(tested.server.connect()) for _ in range(CLIENTS)]
        p99s(wires, SETTLE)
        for number in range(ROUNDS):
            kinds = [(tested, other, quiet), (other, tested, flooded)]
            for with_idle, with_flood, found in kinds[:: -1 if number % 2 else 1]:
                with neighbours(idle=with_idle.port, flood=with_flood.port):
                    time.sleep(SETTLE)
                    found += p99s(wires, seconds)
        failed = tested.server.stats()["ssl_handshake_errors"]
    ratio = statistics.median(flooded) / statistics.median(quiet)
    print(f"p99 of {CLIENTS} plain clients, {os.cpu_count()} CPUs, windows of {WINDOW} requests:")
    print(f"  {NEIGHBOURS} idle neighbours, the flood elsewhere  {shown(quiet)}")
    print(f"  {NEIGHBOURS} neighbours that flood                 {shown(flooded)}")
    print(f"  ratio {ratio:.2f}, {ALLOWED:g} allowed; {failed} handshakes failed")
    return ratio


def shown(times: list[float]) -> str:
    least, *_, most = sorted(times)
    return f"{statistics.median(times):.3f} ms  ({least:.3f} to {most:.3f} of {len(times)})"


def main(arguments: list[str]) -> int:
    if arguments[:1] == ["idle"]:
        idle(int(arguments[1]))
    if arguments[:1] == ["flood"]:
        flood(int(arguments[1]))
    seconds = float(arguments[0]) if arguments else 50.0
    return int(measure(seconds / (2 * ROUNDS) - SETTLE - ARRIVAL) > ALLOWED)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
