"""What answers any get with a value of 100 bytes, as fast as can be: a server that costs next to nothing.

Run as `python -m tests.bench.generator_sink <port>`; it ends by a signal. A request is a line, so the lines
of what came at once are counted and as many replies sent at once: the more are asked at once, the less one
costs. It understands nothing: no sets, no other commands, and the key in a reply is nobody's. Threads: one.
"""

from __future__ import annotations

import select
import socket
import sys

HOST = "127.0.0.1"
REPLY = b"VALUE %b 0 100\r\n%b\r\nEND\r\n" % (b"k" * 20, b"v" * 100)
MOST = 16384  # replies sent at once; as many gets as are received at once have fewer lines
RECEIVED = 1 << 18  # bytes


def serve(listener: socket.socket) -> None:
    """Answer everybody, for ever."""
    replies = memoryview(REPLY * MOST)
    peers: dict[int, socket.socket] = {}
    with select.epoll() as ready:
        ready.register(listener, select.EPOLLIN)
        while True:
            for fd, _ in ready.poll():
                if fd == listener.fileno():
                    peer, _ = listener.accept()
                    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    peers[peer.fileno()] = peer
                    ready.register(peer, select.EPOLLIN)
                    continue
                try:
                    data = peers[fd].recv(RECEIVED)
                    peers[fd].sendall(replies[: len(REPLY) * data.count(b"\n")])
                except OSError:
                    data = b""
                if not data:
                    peers.pop(fd).close()


if __name__ == "__main__":
    with socket.create_server((HOST, int(sys.argv[1])), backlog=1024) as listener:
        serve(listener)
