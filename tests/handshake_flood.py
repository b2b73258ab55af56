"""What a flood of handshakes costs plain clients: p99 beside 200 idle neighbours, and beside 200 that flood.

Run as `python -m tests.handshake_flood [rounds] [seconds]`; needs openssl, starts the server itself, takes
about rounds * 2 * (seconds + 1). It prints both p99s and their ratio, the median over the rounds, and ends
with status 1 where the flood more than doubles the p99.

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
from pathlib import Path

from tests.certificates import Certificates
from tests.servers import HOST, Server, command, free_port
from tests.wire import Wire

NEIGHBOURS = 200
CLIENTS = 8  # plain ones that are measured, one after the other
PAUSE = 0.001  # seconds between two of their requests
AGAIN = 0.1  # seconds after which a client of the flood that was closed comes again
ALLOWED = 2.0


def hello() -> bytes:
    """A ClientHello as the ssl module writes it."""
    context = ssl.create_default_context()
    outgoing = ssl.MemoryBIO()
    client = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="localhost")
    with contextlib.suppress(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


def neighbours(port: int, words: list[bytes]) -> None:
    """Be as many clients as there are `words`; each says its own (b"": nothing), and returns when closed."""
    poll = select.poll()
    clients: dict[int, tuple[socket.socket, bytes]] = {}
    due: list[tuple[float, bytes]] = [
        (time.monotonic() + AGAIN * i / len(words), w) for i, w in enumerate(words)
    ]
    while True:
        now = time.monotonic()
        while due and due[0][0] <= now:
            word = due.pop(0)[1]
            client = socket.create_connection((HOST, port))
            client.sendall(word)
            clients[client.fileno()] = client, word
            poll.register(client, select.POLLIN)
        for number, _ in poll.poll(10):
            client, word = clients[number]
            with contextlib.suppress(OSError):
                if client.recv(1 << 16):
                    continue
            poll.unregister(number)
            del clients[number]
            client.close()
            due.append((time.monotonic() + AGAIN, word))


@contextlib.contextmanager
def beside(kind: str, port: int):  # type: ignore[no-untyped-def]
    """Run neighbours() in a process of its own."""
    argv = [sys.executable, "-m", "tests.handshake_flood", kind, str(port)]
    process = subprocess.Popen(argv, stderr=subprocess.DEVNULL)
    try:
        time.sleep(1.0)
        yield
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


def p99(wires: list[Wire], seconds: float) -> float:
    """Milliseconds that one request in a hundred exceeds."""
    times = []
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        for wire in wires:
            begin = time.perf_counter()
            assert wire.ask(b"get none\r\n") == b"END"
            times.append(time.perf_counter() - begin)
            time.sleep(PAUSE)
    return 1000 * sorted(times)[len(times) * 99 // 100]


def measure(rounds: int, seconds: float) -> float:
    """Return the ratio of the p99s."""
    port, plain = free_port(), free_port()
    with tempfile.TemporaryDirectory() as folder:
        made = Certificates(Path(folder))
        pair = f"ssl_chain_cert={made.server},ssl_key={made.server_key}"
        argv = command(port, "-l", f"notls:{HOST}:{plain}", "-Z", "-o", pair)
        with Server(argv, (HOST, plain)) as server:
            wires = [server.connect() for _ in range(CLIENTS)]
            p99(wires, 0.5)
            idle, flooded = [], []
            for _ in range(rounds):
                with beside("idle", plain):
                    idle.append(p99(wires, seconds))
                with beside("flood", port):
                    flooded.append(p99(wires, seconds))
            now = server.stats()
    failed = now["ssl_handshake_errors"]
    ratio = statistics.median(flooded) / statistics.median(idle)
    print(
        f"p99 of {CLIENTS} plain clients, {os.cpu_count()} CPUs, median of {rounds} rounds of {seconds:g} s:"
    )
    print(f"  beside {NEIGHBOURS} idle neighbours  {statistics.median(idle):.3f} ms  {shown(idle)}")
    print(f"  beside {NEIGHBOURS} that flood       {statistics.median(flooded):.3f} ms  {shown(flooded)}")
    print(f"  ratio {ratio:.2f}; {failed} handshakes failed, {now['ssl_unfinished']} unfinished")
    return ratio


def shown(times: list[float]) -> str:
    return "(" + " ".join(f"{each:.3f}" for each in times) + ")"


def main(arguments: list[str]) -> int:
    if arguments[:1] == ["idle"]:
        neighbours(int(arguments[1]), [b""] * NEIGHBOURS)
    if arguments[:1] == ["flood"]:
        neighbours(
            int(arguments[1]),
            [hello(), b"\x16\x03garbage or else\r\n", hello(), b"get a\r\n"] * (NEIGHBOURS // 4),
        )
    rounds, seconds = int(arguments[0]) if arguments else 3, float(arguments[1]) if arguments[1:] else 4.0
    return int(measure(rounds, seconds) > ALLOWED)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
