"""Log lines of a thread that must never wait for whoever reads the log.

Knows: logging. Must not know: memory, pressure. A pipe behind stderr that nobody empties would otherwise stop
the monitor in the middle of a line, and the process would be killed for want of memory soon after.

Threads: the diverted thread puts lines into the outbox, the outbox's own thread writes them, all handlers as
configured. Memory: LINES_MAX lines at most; what comes on top is counted and dropped.
"""

from __future__ import annotations

import logging
import threading
from queue import SimpleQueue

LINES_MAX = 100
_FORMATTER = logging.Formatter()


class Outbox(logging.Filter):
    """Takes the lines that one thread writes to `logger`, and passes them on in a thread of its own."""

    def __init__(self, logger: logging.Logger) -> None:
        super().__init__()
        self._logger = logger
        self._lines: SimpleQueue[logging.LogRecord | None] = SimpleQueue()
        self._dropped = 0
        self._diverted = 0  # identity of the diverted thread
        self._thread = threading.Thread(target=self._run, name="cacheserver-pressure-log", daemon=True)
        self._thread.start()

    def divert(self) -> None:
        """From now on the calling thread's lines go through this outbox."""
        self._diverted = threading.get_ident()
        self._logger.addFilter(self)

    def filter(self, record: logging.LogRecord) -> bool:
        if threading.get_ident() != self._diverted:
            return True
        if self._lines.qsize() >= LINES_MAX:
            self._dropped += 1
            return False
        # Made into text at once: arguments change, and a traceback keeps its frames alive.
        record.msg, record.args = record.getMessage(), ()
        if record.exc_info:
            record.exc_text = _FORMATTER.formatException(record.exc_info)
            record.exc_info = None
        self._lines.put(record)
        return False

    def _run(self) -> None:
        told = 0
        while (record := self._lines.get()) is not None:
            self._logger.handle(record)
            if (dropped := self._dropped) != told:
                self._logger.warning("%d log lines lost, nobody read them in time", dropped - told)
                told = dropped

    def close(self, timeout: float) -> None:
        """Divert no more; wait `timeout` seconds at most for what is left to be written."""
        self._logger.removeFilter(self)
        self._lines.put(None)
        self._thread.join(timeout)
