"""The server as it is, its monitor at work; who writes to stdin has its store asked hard beside that.

Run as `python -m tests.bench.pressure_asked <flags of the server>`. A line `<bytes>` asks for so many, hard,
from a thread of the priority that the monitor's has; then a line `<bytes freed> <seconds it took>` is
printed. Knows: that `cacheserver.server.Server` keeps its shrinker as `_shrinker`. The thread ends with
stdin.
"""

from __future__ import annotations

import os
import runpy
import sys
import threading
import time
from typing import Any


def obey(owner: Any) -> None:
    """Do what the lines of stdin say."""
    from cacheserver.pressure.monitor import NICE

    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
    for line in sys.stdin:
        target = int(line)
        started = time.monotonic()
        freed = owner._shrinker.request_memory(target, True)
        print(freed, time.monotonic() - started, flush=True)


def main() -> None:
    """Start the server's own main program with the thread attached to its Server."""
    from cacheserver import server

    original = server.Server.__init__

    def init(self: Any, *arguments: Any, **options: Any) -> None:
        original(self, *arguments, **options)
        threading.Thread(target=obey, args=(self,), name="asks", daemon=True).start()

    server.Server.__init__ = init  # type: ignore[method-assign]
    runpy.run_module("cacheserver", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
