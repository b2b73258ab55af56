"""The host as a bound: /proc/meminfo where there is one, psutil elsewhere.

Knows: meminfo's fields. Must not know: cgroups, the policy.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Sequence
from typing import Any

from cacheserver.pressure.source import Gauge, Probe, Reading, Trouble, Watch, field

NAME = "host"


class MeminfoSource:
    """MemTotal as the limit; what MemAvailable, page cache included, leaves of it as the usage."""

    name = "meminfo"

    def __init__(self, root: str = "/") -> None:
        self._meminfo = Probe(os.path.join(root, "proc/meminfo"))
        self._pressure = Probe(os.path.join(root, "proc/pressure/memory"), optional=True)
        self._last: Reading | None = None

    def read(self, now: float) -> Sequence[Reading]:
        fresh = self._read(self._pressure.stall())
        self._last = fresh or (self._last and self._last._replace(stale=True))
        return [self._last] if self._last else []

    def quick(self, last: Reading) -> Reading | None:
        return self._read(last.stall)

    def gauge(self, last: Reading) -> Gauge | None:
        fd = self._meminfo.fileno()
        return Gauge(fd, meminfo=True) if fd >= 0 else None

    def _read(self, stall: float) -> Reading | None:
        text = self._meminfo.read()
        if text is None:
            return None
        total, available = field(text, b"MemTotal:"), field(text, b"MemAvailable:")
        if available is None:
            # Kernels before 3.14: half of the page cache is a fair guess at what can be dropped without harm.
            free, cached = field(text, b"MemFree:"), field(text, b"Cached:")
            available = free + cached // 2 if free is not None and cached is not None else None
        if total is None or available is None:
            self._meminfo.complain("no MemTotal and MemAvailable in it")
            return None
        self._meminfo.recover()
        return Reading(NAME, total << 10, (total - min(available, total)) << 10, stall=stall)

    def watches(self) -> Sequence[Watch]:
        return ()

    def close(self) -> None:
        self._meminfo.close()
        self._pressure.close()


class PsutilSource:
    """The host through psutil, for systems without /proc. psutil is imported here and nowhere else."""

    name = "psutil"

    def __init__(self, module: Any = None) -> None:
        self._memory = (module or importlib.import_module("psutil")).virtual_memory
        self._trouble = Trouble("psutil.virtual_memory()")
        self._last: Reading | None = None

    def read(self, now: float) -> Sequence[Reading]:
        try:
            memory = self._memory()
            reading = Reading(NAME, int(memory.total), int(memory.total) - int(memory.available))
        except Exception as error:  # whatever a platform's back end raises, the server goes on
            self._trouble.begin(str(error))
            return [self._last._replace(stale=True)] if self._last else []
        self._trouble.end()
        self._last = reading
        return [reading]

    def quick(self, last: Reading) -> Reading | None:
        return None

    def watches(self) -> Sequence[Watch]:
        return ()

    def close(self) -> None:
        pass
