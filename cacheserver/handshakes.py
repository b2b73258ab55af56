"""TLS handshakes, in a thread of their own: accepted sockets in, sockets that a worker can serve out.

What a stranger can make the server do before it has shown that it speaks TLS happens here and is bounded:
so many handshakes at once, so much time and memory for each. Next to nothing is spent on a client that has
sent nothing, or something else than a handshake.

Knows: epoll, ssl, a budget. Must not know: certificates, workers, the engine.
Owns: every socket from take() on until it is handed over or closed.
Threads: take(), stop() and counters() may be called from any; everything else happens on its own.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable

from cacheserver.net.budget import Budget
from cacheserver.net.transport import Secure

log = logging.getLogger("cacheserver.tls")

SECONDS = 10.0  # for a handshake, from the moment its socket was accepted
MOST = 128  # handshakes at once
EVENTS_MAX = 64
TEND_EVERY = 256  # handshakes
HANDSHAKE = b"\x16"  # first byte of a record that can begin one

# Bytes a handshake may make OpenSSL hold. A usual one takes 43 KiB (measured); a first message of the
# greatest length that OpenSSL 3.0 takes, 128 KiB, and a part of a record come on top.
COST = 192 << 10


class _Handshake:
    """One that is not done; `until` is a time.monotonic() value."""

    __slots__ = ("secure", "sock", "until")

    def __init__(self, sock: socket.socket, until: float) -> None:
        self.sock = sock
        self.until = until
        self.secure: Secure | None = None  # from the first byte on; has the descriptor then


class Handshakes:
    """Does the handshakes of sockets given to take(); one thread.

    context(): what a connection begins with. hand_over(socket): takes one that is done. settled(): called
    once for each socket taken, when it was handed over or closed. on_error(error): called, on the thread,
    with what has ended it. tend(): called now and then. budget: what OpenSSL may hold in all; where it is
    spent the oldest handshakes give way, and where there are none the new one does. most: handshakes at
    once. seconds: for each, from take() on.
    """

    def __init__(
        self,
        context: Callable[[], ssl.SSLContext],
        hand_over: Callable[[Secure], object],
        *,
        budget: Budget,
        settled: Callable[[], object],
        on_error: Callable[[BaseException], object],
        tend: Callable[[], object] = lambda: None,
        most: int = MOST,
        seconds: float = SECONDS,
    ) -> None:
        self._context = context
        self._hand_over = hand_over
        self._budget = budget
        self._settled = settled
        self._on_error = on_error
        self._tend = tend
        self._most = most
        self._seconds = seconds
        self._fresh: deque[tuple[int, float]] = deque()
        self._open: dict[int, _Handshake] = {}  # by descriptor, the oldest first
        self._done = 0
        self._failed = 0
        self._stopping = False
        self._poll = select.epoll()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._poll.register(self._wake, select.EPOLLIN)
        self._thread = threading.Thread(target=self._run, name="handshakes", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def take(self, fd: int) -> None:
        """Begin the handshake of an accepted non-blocking socket. Same thread as stop()."""
        if self._stopping:
            os.close(fd)
            self._settled()
            return
        self._fresh.append((fd, time.monotonic() + self._seconds))
        os.eventfd_write(self._wake, 1)

    def stop(self, timeout: float) -> bool:
        """Close what is not done and end the thread, within `timeout` seconds; True when it has ended.

        Harmless to repeat, and before start().
        """
        if self._poll.closed:
            return True
        self._stopping = True
        if self._thread.ident is None:
            self._close_all()
        else:
            os.eventfd_write(self._wake, 1)
            self._thread.join(timeout)
            if self._thread.is_alive():
                return False
        self._poll.close()
        os.close(self._wake)
        return True

    def counters(self) -> dict[str, int]:
        """memcached's ssl_handshake_errors; own: ssl_handshakes (done), ssl_unfinished (now), ssl_bytes (what
        is counted against the budget now, served connections included); any thread."""
        return {
            "ssl_handshakes": self._done,
            "ssl_handshake_errors": self._failed,
            "ssl_unfinished": len(self._open) + len(self._fresh),
            "ssl_bytes": self._budget.used,
        }

    # -- the thread --

    def _run(self) -> None:
        try:
            while not self._stopping:
                self._turn()
        except Exception as error:
            log.exception("the TLS handshakes failed")
            self._on_error(error)
        finally:
            self._stopping = True
            self._close_all()

    def _turn(self) -> None:
        timeout = max(0.0, self._oldest().until - time.monotonic()) if self._open else None
        for fd, _ in self._poll.poll(timeout, EVENTS_MAX):
            if fd == self._wake:
                os.eventfd_read(self._wake)
                self._admit()
            elif fd in self._open:
                self._advance(fd, self._open[fd])
        now = time.monotonic()
        while self._open and self._oldest().until <= now:
            self._fail(next(iter(self._open)))

    def _oldest(self) -> _Handshake:
        return next(iter(self._open.values()))

    def _admit(self) -> None:
        """Watch the fresh sockets, at the expense of the oldest where there are too many."""
        while self._fresh:
            fd, until = self._fresh.popleft()
            if len(self._open) >= self._most:
                self._fail(next(iter(self._open)))
            self._open[fd] = _Handshake(socket.socket(fileno=fd), until)
            try:
                self._poll.register(fd, select.EPOLLIN)
            except OSError:  # the system watches no more
                self._fail(fd)

    def _advance(self, fd: int, each: _Handshake) -> None:
        """Go on with a handshake as far as its client lets it."""
        try:
            if each.secure is None:
                self._begin(each)
            assert each.secure is not None
            each.secure.do_handshake()
        except (ssl.SSLWantReadError, BlockingIOError):
            self._poll.modify(fd, select.EPOLLIN)
        except ssl.SSLWantWriteError:
            self._poll.modify(fd, select.EPOLLOUT)
        except (OSError, ValueError):  # the client broke the rules, or is gone
            self._fail(fd)
        else:
            self._finish(fd, each.secure)

    def _begin(self, each: _Handshake) -> None:
        """The client has sent something: let OpenSSL see it. Raises OSError where that is not worth it."""
        each.sock.setblocking(False)
        if each.sock.recv(1, socket.MSG_PEEK) != HANDSHAKE:
            raise ConnectionError("the client speaks something else")
        while not self._budget.take(COST):
            if not self._give_way():
                raise ConnectionError("no memory for another handshake")
        try:
            each.secure = Secure(each.sock, self._context())
        except BaseException:
            self._budget.give(COST)
            raise

    def _give_way(self) -> bool:
        """End the oldest handshake that OpenSSL holds memory for; False: there is none."""
        for fd, each in self._open.items():
            if each.secure is not None:
                self._fail(fd)
                return True
        return False

    def _finish(self, fd: int, secure: Secure) -> None:
        del self._open[fd]
        self._poll.unregister(fd)
        self._budget.give(COST)
        self._done += 1
        self._hand_over(secure)
        self._settled()
        if self._done % TEND_EVERY == 0:
            self._tend()

    def _fail(self, fd: int) -> None:
        each = self._open.pop(fd)
        if each.secure is not None:
            self._budget.give(COST)
        self._failed += 1
        with contextlib.suppress(OSError):
            (each.secure or each.sock).close()
        self._settled()

    def _close_all(self) -> None:
        while self._open:
            self._fail(next(iter(self._open)))
        while self._fresh:
            os.close(self._fresh.popleft()[0])
            self._settled()
