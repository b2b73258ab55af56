"""Log lines of a thread that must never wait for whoever reads the log.

Knows: logging. Must not know: memory, pressure. A pipe behind stderr that nobody empties would otherwise stop
the monitor in the middle of a line, and the process would be killed for want of memory soon after.

Threads: those that are diverted put lines into the outbox, the outbox's own thread writes them, all handlers
as configured. Memory: LINES_MAX lines at most; what comes on top is counted and dropped.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from queue import SimpleQueue

LINES_MAX = 100
_FORMATTER = logging.Formatter()
_FALLBACK = (
    logging.NullHandler()
)  # its handleError tells of a handler that raised, as logging.raiseExceptions says


class Outbox(logging.Filter):
    """Takes the lines that some threads write to `logger`, and passes them on in a thread of its own.

    `diverted()`: whether the calling thread is one of them. RuntimeError when no thread is to be had.
    """

    def __init__(self, logger: logging.Logger, diverted: Callable[[], bool]) -> None:
        super().__init__()
        self._logger = logger
        self._diverted = diverted
        self._lines: SimpleQueue[logging.LogRecord | None] = SimpleQueue()
        self._dropped = 0
        self._thread = threading.Thread(target=self._run, name="cacheserver-pressure-log", daemon=True)
        self._thread.start()
        logger.addFilter(self)

    def filter(self, record: logging.LogRecord) -> bool:
        if not self._diverted():
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
            try:
                self._logger.handle(record)
            except Exception:  # a handler's own fault, and not the end of the others' lines
                _FALLBACK.handleError(record)
            if (dropped := self._dropped) != told:
                self._logger.warning("%d log lines lost, nobody read them in time", dropped - told)
                told = dropped

    def discard(self) -> None:
        """Divert no more; what is left stays unwritten."""
        self._logger.removeFilter(self)

    def close(self, timeout: float) -> None:
        """Divert no more; wait `timeout` seconds at most for what is left to be written."""
        self._logger.removeFilter(self)
        self._lines.put(None)
        if self._thread is not threading.current_thread():  # a handler may stop the monitor
            self._thread.join(timeout)
