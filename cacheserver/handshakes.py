"""TLS handshakes, in a thread of their own: accepted sockets in, sockets that a worker can serve out.

What a stranger can make the server do before it has shown that it speaks TLS happens here and is bounded:
so many handshakes at once, so much time and memory for each. Next to nothing is spent on a client that has
sent nothing, or something else than a handshake. Where there are too many at once the next ones wait; only
those that had time enough to go on, and did not, give way to them.

Knows: epoll, ssl, a budget. Must not know: certificates, workers, the engine.
Owns: every socket from take() on until it is handed over or closed.
Threads: take(), stop() and counters() may be called from any; everything else happens on its own.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import select
import socket
import ssl
import sys
import termios
import threading
import time
from collections import deque
from collections.abc import Callable

from cacheserver.net.budget import Budget
from cacheserver.net.transport import Secure

log = logging.getLogger("cacheserver.tls")

SECONDS = 10.0  # for a handshake, from the moment it has a place
MOST = 128  # handshakes at once
EVENTS_MAX = 64
TEND_EVERY = 256  # handshakes

# Seconds after which a handshake gives way to one that waits: its client has said nothing; it does not go on,
# while none is finished, so that somebody seems to hold the places on purpose; or it does not go on, but
# others do, so that patience costs little.
SILENT = 0.1
STALLED = 0.3
SLOW = 1.0
LOOK_AGAIN = 0.02  # seconds until it is looked whether one has to give way by now

# A client begins with a record (its type, version, and length: 1, 2, and 2 bytes) of a message (type, length:
# 1 and 3). What it offers in there OpenSSL keeps as long as the connection; a usual one has up to 2 KiB.
HEAD = 9
RECORD, HELLO = 0x16, 1  # the types
HELLO_MAX = 8 << 10
# Bytes that a client may say in all until its handshake is done: it may have to repeat its beginning, and
# certificates come on top.
SAID_MAX = 16 << 10

# Bytes a handshake may make OpenSSL hold. A usual one takes 43 KiB (measured); a repeated beginning of the
# greatest length that OpenSSL 3.0 takes, 128 KiB, and a part of a record come on top.
COST = 192 << 10


class _Handshake:
    """One that is not done; `since` is when it got its place, or OpenSSL, by time.monotonic()."""

    __slots__ = ("secure", "since", "sock", "until")

    def __init__(self, sock: socket.socket, since: float, until: float) -> None:
        self.sock = sock
        self.since = since
        self.until = until
        self.secure: Secure | None = None  # from its beginning on; has the descriptor then


class Handshakes:
    """Does the handshakes of sockets given to take(); one thread.

    context(): what a connection begins with. hand_over(socket): takes one that is done. settled(): called
    once for each socket taken, when it was handed over or closed. on_error(error): called, on the thread,
    with what has ended it. tend(): called now and then. budget: what OpenSSL may hold in all; where it is
    spent by other handshakes a new one waits, and where by others it is closed. most: handshakes at once.
    seconds: for each.
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
        self._fresh: deque[int] = deque()  # those that wait for a place
        self._open: dict[int, _Handshake] = {}  # by descriptor, the oldest first
        self._begun = 0  # those of them that OpenSSL holds memory for
        self._last_done = 0.0
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
        self._fresh.append(fd)
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
        for fd, events in self._poll.poll(self._timeout(), EVENTS_MAX):
            if fd == self._wake:
                os.eventfd_read(self._wake)
            elif fd in self._open:
                self._advance(fd, self._open[fd], gone=bool(events & select.EPOLLRDHUP))
        now = time.monotonic()
        while self._open and self._oldest().until <= now:
            self._fail(next(iter(self._open)))
        self._admit(now)

    def _timeout(self) -> float | None:
        if not self._open:
            return None
        left = max(0.0, self._oldest().until - time.monotonic())
        return min(left, LOOK_AGAIN) if self._fresh else left

    def _oldest(self) -> _Handshake:
        return next(iter(self._open.values()))

    # -- places --

    def _admit(self, now: float) -> None:
        """Give places to those that wait, as far as there are any, or somebody has to give way."""
        while self._fresh and (self._has_room() or self._make_room(now)):
            fd = self._fresh.popleft()
            try:
                sock = socket.socket(fileno=fd)
            except (OSError, MemoryError):
                os.close(fd)
                self._failed += 1
                self._settled()
                continue
            self._open[fd] = _Handshake(sock, now, now + self._seconds)
            try:
                # An event for each part of a head that comes in parts, since they stay with the kernel.
                self._poll.register(fd, select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLET)
            except OSError:  # the system watches no more
                self._fail(fd)

    def _has_room(self) -> bool:
        if len(self._open) >= self._most:
            return False
        return not self._begun or self._budget.used + COST <= self._budget.limit

    def _make_room(self, now: float) -> bool:
        """End the oldest that had time enough; False: they all may go on."""
        crowded = len(self._open) >= self._most
        patience = SLOW if now - self._last_done < SILENT else STALLED
        for fd, each in list(self._open.items()):
            if each.secure is None and not crowded:
                continue  # holds no memory
            if now - each.since >= (SILENT if each.secure is None else patience):
                begun = each.secure is not None
                self._advance(fd, each)  # what it has said meanwhile may not have had its turn yet
                if fd in self._open and begun == (each.secure is not None):
                    self._fail(fd)
                return self._has_room()
        return False

    # -- one handshake --

    def _advance(self, fd: int, each: _Handshake, *, gone: bool = False) -> None:
        """Go on with a handshake as far as its client lets it; gone: the client will say no more."""
        try:
            if each.secure is None and not self._begin(fd, each, gone):
                return
            assert each.secure is not None
            each.secure.do_handshake()
            if _said(each.secure.sock) > SAID_MAX:
                raise ConnectionError("the client says too much")
        except ssl.SSLWantReadError:
            self._poll.modify(fd, select.EPOLLIN)
        except ssl.SSLWantWriteError:
            self._poll.modify(fd, select.EPOLLOUT)
        except (OSError, ValueError, MemoryError):  # it broke the rules, is gone, or costs too much
            self._fail(fd)
        else:
            self._finish(fd, each.secure)

    def _begin(self, fd: int, each: _Handshake, gone: bool) -> bool:
        """Let OpenSSL see what the client sends, if that looks good. False: not yet; OSError: never."""
        each.sock.setblocking(False)
        try:
            head = each.sock.recv(HEAD, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        if not _may_begin(head):
            raise ConnectionError("the client speaks something else, or too much")
        if len(head) < HEAD:
            if gone:
                raise ConnectionError("the client is gone")
            return False
        if not self._budget.take(COST):
            if not self._begun:
                raise ConnectionError("no memory for a handshake")
            self._put_back(fd, each)
            return False
        self._begun += 1
        try:
            each.secure = Secure(each.sock, self._context())
        except BaseException:
            self._give()
            raise
        each.since = time.monotonic()
        return True

    def _put_back(self, fd: int, each: _Handshake) -> None:
        """Have a handshake wait that has a place, but no memory."""
        del self._open[fd]
        self._poll.unregister(fd)
        self._fresh.appendleft(each.sock.detach())

    def _give(self) -> None:
        self._begun -= 1
        self._budget.give(COST)

    def _finish(self, fd: int, secure: Secure) -> None:
        del self._open[fd]
        self._poll.unregister(fd)
        self._give()
        self._done += 1
        self._last_done = time.monotonic()
        self._hand_over(secure)
        self._settled()
        if self._done % TEND_EVERY == 0:
            self._tend()

    def _fail(self, fd: int) -> None:
        each = self._open.pop(fd)
        if each.secure is not None:
            self._give()
        self._failed += 1
        self._settled()  # before the client sees the end: from there on it may count on a place
        with contextlib.suppress(OSError):
            (each.secure or each.sock).close()

    def _close_all(self) -> None:
        while self._open:
            self._fail(next(iter(self._open)))
        while self._fresh:
            os.close(self._fresh.popleft())
            self._settled()


def _may_begin(head: bytes) -> bool:
    """Whether a client whose bytes begin with `head` may have begun a handshake of a bearable length."""
    if len(head) < HEAD:
        return head[:1] == bytes([RECORD])
    in_record, in_message = int.from_bytes(head[3:5]), int.from_bytes(head[6:HEAD])
    # A record that has less than the head of a message hides the length.
    return head[0] == RECORD and head[5] == HELLO and in_record >= 4 and in_message <= HELLO_MAX


def _said(sock: socket.socket) -> int:
    """Bytes that were received from `sock`, 0 where the system does not tell: tcpi_bytes_received of Linux,
    but for what nobody has read yet."""
    end = 136
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, end)
    except OSError:  # not of TCP
        return 0
    if len(info) < end:
        return 0
    unread = fcntl.ioctl(sock.fileno(), termios.FIONREAD, bytes(4))
    return int.from_bytes(info[end - 8 :], sys.byteorder) - int.from_bytes(unread, sys.byteorder)
