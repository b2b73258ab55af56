"""The server as it is, but for its monitor: who writes to stdin asks for memory back, and nobody else does.

Run as `python -m tests.bench.asked_server <flags of the server>`. A line `soft <bytes>` asks for so many,
softly; when they are paid a line `<bytes released> <seconds>` is printed. A real monitor would cancel the
debt at its next look, since the machine has memory left. Knows: that `cacheserver.server.Server` keeps its
store as `store` and its shrinker as `_shrinker`. The thread ends with stdin.
"""

from __future__ import annotations

import runpy
import sys
import threading
import time
from collections.abc import Callable
from typing import Any


def obey(owner: Any) -> None:
    """Do what the lines of stdin say."""
    for line in sys.stdin:
        before = owner.store.snapshot()["released_soft"]
        started = time.monotonic()
        owner._shrinker.request_memory(int(line.split()[1]), False)
        while owner.store.snapshot()["debt"]:
            time.sleep(0.02)
        released = owner.store.snapshot()["released_soft"] - before
        print(released, time.monotonic() - started, flush=True)


def serve(obey: Callable[[Any], None]) -> None:
    """Run the server's own main program, with a thread that runs `obey` attached to its Server."""
    from cacheserver import server

    original = server.Server.__init__

    def init(self: Any, *arguments: Any, **options: Any) -> None:
        original(self, *arguments, **options)
        threading.Thread(target=obey, args=(self,), name="asks", daemon=True).start()

    server.Server.__init__ = init  # type: ignore[method-assign]
    runpy.run_module("cacheserver", run_name="__main__", alter_sys=True)


def main() -> None:
    """Serve without a monitor."""
    from cacheserver import shrinkers

    shrinkers.StoreShrinker.register = lambda self, monitor: None  # type: ignore[method-assign,assignment,return-value]
    shrinkers.StoreShrinker.unregister = lambda self, monitor, handle: None  # type: ignore[method-assign]
    serve(obey)


if __name__ == "__main__":
    main()
