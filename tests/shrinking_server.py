"""The server as it is, with one thread added that demands memory back hard, at random, all the time.

Run as `python -m tests.shrinking_server <flags of the server>`. Knows: that `cacheserver.server.Server` keeps
its store as `store`, and that `store.shrink(bytes, hard)` may be called from any thread. The thread ends when
stdin is closed and then prints how often it asked and how many bytes came back, so that a test can end it
before it ends the server.
"""

from __future__ import annotations

import os
import random
import runpy
import select
import sys
import threading
import time
from typing import Any

MIB = 1 << 20
INTERVALS = (0.001, 0.15)  # seconds between two demands, drawn logarithmically
DEMANDS = (4096, 24 * MIB)  # bytes, drawn logarithmically


def demand(owner: Any) -> None:
    """Call shrink until stdin ends; print one line of totals."""
    dice = random.Random()
    asked = calls = released = 0
    while not hasattr(owner, "store"):
        time.sleep(0.01)
    while True:
        pause = INTERVALS[0] * (INTERVALS[1] / INTERVALS[0]) ** dice.random()
        ready, _, _ = select.select([sys.stdin], [], [], pause)
        if ready and not os.read(sys.stdin.fileno(), 1):
            break
        target = int(DEMANDS[0] * (DEMANDS[1] / DEMANDS[0]) ** dice.random())
        # One soft demand in eight, so that survivors are being moved while others are discarded.
        hard = dice.randrange(8) > 0
        released += owner.store.shrink(target, hard)
        asked += target
        calls += 1
    print(f"demands={calls} asked={asked} released={released}", flush=True)


def main() -> None:
    """Start the server's own main program with the thread attached to the first Server it makes."""
    from cacheserver import server

    original = server.Server.__init__

    def init(self: Any, *arguments: Any, **options: Any) -> None:
        original(self, *arguments, **options)
        server.Server.__init__ = original  # type: ignore[method-assign]
        threading.Thread(target=demand, args=(self,), name="demands", daemon=True).start()

    server.Server.__init__ = init  # type: ignore[method-assign]
    runpy.run_module("cacheserver", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
