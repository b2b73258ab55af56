"""The server as it is, its monitor at work; who writes to stdin has its store asked hard beside that.

Run as `python -m tests.bench.pressure_asked <flags of the server>`. A line `<bytes>` asks for so many, hard,
from a thread of the priority that the monitor's has; then a line `<bytes freed> <seconds it took>` is
printed. Knows: that `cacheserver.server.Server` keeps its shrinker as `_shrinker`. The thread ends with
stdin.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from typing import Any

from tests.bench.asked_server import serve


def obey(owner: Any) -> None:
    """Do what the lines of stdin say."""
    from cacheserver.pressure.runner import NICE

    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
    for line in sys.stdin:
        target = int(line)
        started = time.monotonic()
        freed = owner._shrinker.request_memory(target, True)
        print(freed, time.monotonic() - started, flush=True)


if __name__ == "__main__":
    serve(obey)
