"""A server over a store of a fixed capacity, in a process of its own: `cacheserver` itself has no such setting.

    python -m tests.bench.bounded PORT BYTES    # until its standard input ends
"""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from types import TracebackType

import uvloop

from cacheserver.engine import Engine, store_clock
from cacheserver.net.listener import Listener
from cacheserver.net.reactor import Reactor
from cacheserver.store.store import Store
from cacheserver.worker import Worker

HOST = "127.0.0.1"


def serve(port: int, capacity: int) -> None:
    """Serve on 127.0.0.1:`port` from a store of `capacity` bytes until standard input ends."""
    store = Store(capacity=capacity)
    worker = Worker(
        "worker",
        Reactor(Engine(store, version="bounded")),
        housekeeping=[(0.1, lambda: store.maintain(store_clock(), 1000))],
        on_error=lambda error: print(error, file=sys.stderr),
    )
    worker.start()
    listening = socket.create_server((HOST, port))
    listening.setblocking(False)
    listener = Listener([listening], [worker.reactor], max_conns=1000, on_pause=lambda *_: None)
    loop = uvloop.new_event_loop()
    loop.add_reader(listening.fileno(), listener.accept_ready, 0)
    threading.Thread(target=lambda: (sys.stdin.read(), loop.call_soon_threadsafe(loop.stop)), daemon=True).start()
    loop.run_forever()


class BoundedServer:
    """Starts such servers; the last one ends with the `with` block, each other one with the next."""

    def __init__(self, capacity: int) -> None:
        """`capacity` in bytes."""
        self.capacity = capacity
        self.process: subprocess.Popen[bytes] | None = None

    def fresh(self) -> int:
        """Start a server with an empty store in the place of the last one; return its port."""
        self._end()
        with socket.create_server((HOST, 0)) as probe:
            port = int(probe.getsockname()[1])
        argv = [sys.executable, "-m", "tests.bench.bounded", str(port), str(self.capacity)]
        self.process = subprocess.Popen(argv, stdin=subprocess.PIPE)
        for _ in range(200):
            try:
                socket.create_connection((HOST, port)).close()
            except OSError:
                time.sleep(0.05)
            else:
                return port
        raise SystemExit("the bounded server does not start: see its error above")

    def _end(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def __enter__(self) -> BoundedServer:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._end()


if __name__ == "__main__":
    serve(int(sys.argv[1]), int(sys.argv[2]))
