"""Holds one exchange with a server and reports the replies in a form that two servers can be compared by.

Knows: how to find the end of a reply without waiting (a request with a known reply is sent behind each step)
and which parts of a reply differ between any two servers: the version, the cas uniques, seconds that tick.
Uniques become #1, #2 ... in the order of their first appearance, so which of them are equal is still
compared; a time to live is rounded up to ten seconds, a time since the last access down.
"""

from __future__ import annotations

import re

from tests.integration.exchanges import Exchange
from tests.servers import Server
from tests.wire import Wire

# A set and a get, so that no command under test can produce the same reply by itself.
SENTINEL = b"set ~end~ 0 0 5 noreply\r\n~END~\r\nget ~end~\r\n"
SENTINEL_REPLY = b"VALUE ~end~ 0 5\r\n~END~\r\nEND\r\n"
CLOSED = b"<closed>"
CAS_MARK = re.compile(rb"\{cas([+-]1)?\}")
META_CODES = {b"HD", b"VA", b"EN", b"NF", b"NS", b"EX", b"ME"}
DEBUG_FIELD = re.compile(rb"(exp|la|cas|cls|size)=(-?\d+)")


class Conversation:
    """One exchange on one connection; collects the normalised replies, one for each step."""

    def __init__(self, wire: Wire, exchange: Exchange) -> None:
        self._wire = wire
        self._exchange = exchange
        self._uniques: dict[bytes, bytes] = {}
        self._last_unique = b"0"
        self._chosen = set(
            re.findall(rb" E(\d+)", b" ".join(exchange.steps))
        )  # numbers the client gives itself

    def hold(self) -> list[bytes]:
        """Send the steps in turn; return the reply to each; a closed connection adds CLOSED and ends it."""
        replies: list[bytes] = []
        last = len(self._exchange.steps) - 1
        for number, step in enumerate(self._exchange.steps):
            request = CAS_MARK.sub(self._fill_in, step)
            if self._exchange.closes and number == last:
                self._send(request)
                replies += [self._normalise(self._wire.read_to_end()), CLOSED]
                break
            self._send(request + SENTINEL)
            reply, closed = self._wire.read_until(SENTINEL_REPLY)
            replies.append(self._normalise(reply))
            if closed:
                replies.append(CLOSED)
                break
        return replies

    def _send(self, data: bytes) -> None:
        try:
            self._wire.send(data)
        except (BrokenPipeError, ConnectionResetError):
            return  # the server closed in the middle of the request; reading shows what it said before

    def _fill_in(self, mark: re.Match[bytes]) -> bytes:
        return b"%d" % (int(self._last_unique) + int(mark[1] or 0))

    def _symbol(self, unique: bytes) -> bytes:
        """Remember a cas unique, return what stands for it; one that a step has chosen stands for itself."""
        if unique == b"0" or unique in self._chosen:
            return unique
        self._last_unique = unique
        return self._uniques.setdefault(unique, b"#%d" % (len(self._uniques) + 1))

    def _meta_flag(self, flag: bytes) -> bytes:
        """A return flag of a meta reply, normalised."""
        letter, number = flag[:1], flag[1:]
        if not number.isdigit():
            return flag
        if letter == b"c":
            return letter + self._symbol(number)
        if letter == b"t":
            return letter + rounded_up(number)
        return letter + b"%d" % (int(number) // 10 * 10) if letter == b"l" else flag

    def _debug_field(self, field: re.Match[bytes]) -> bytes:
        name, number = field[1], field[2]
        if name == b"cas":
            number = self._symbol(number)
        elif name == b"exp" and number != b"-1":
            number = rounded_up(number)
        elif name == b"la":
            number = b"%d" % (int(number) // 10 * 10)
        elif name in (b"cls", b"size"):
            number = b"x"
        return name + b"=" + number

    def _normalise(self, reply: bytes) -> bytes:
        parts: list[bytes] = []
        at = 0
        while at < len(reply):
            end = reply.find(b"\r\n", at)
            line = reply[at:] if end < 0 else reply[at : end + 2]
            at += len(line)
            words = line[:-2].split(b" ")
            if line.startswith(b"VERSION "):
                line = b"VERSION x\r\n"
            elif line.startswith(b"VALUE ") and len(words) >= 4:
                if len(words) == 5:
                    line = b" ".join([*words[:4], self._symbol(words[4])]) + b"\r\n"
                size = int(words[3]) + 2
                line += reply[at : at + size]
                at += size
            elif words[0] == b"ME":
                line = DEBUG_FIELD.sub(self._debug_field, line)
            elif words[0] in META_CODES:
                line = b" ".join([words[0], *map(self._meta_flag, words[1:])]) + b"\r\n"
                size = int(words[1]) + 2 if words[0] == b"VA" else 0
                line += reply[at : at + size]
                at += size
            parts.append(line)
        return b"".join(parts)


def rounded_up(seconds: bytes) -> bytes:
    return b"%d" % (-(-int(seconds) // 10) * 10)


def hold(server: Server, exchange: Exchange) -> list[bytes]:
    """Flush `server`, hold `exchange` with it on a new connection, return the normalised replies."""
    with server.connect(timeout=5.0) as cleaner:
        if cleaner.ask(b"flush_all\r\n") != b"OK":
            raise AssertionError("flush_all was refused")
    with server.connect(timeout=5.0) as wire:
        try:
            return Conversation(wire, exchange).hold()
        except TimeoutError:
            waiting = bytes(wire._buffer[:200])
            raise AssertionError(f"no end of the reply to {exchange.name!r}; so far {waiting!r}") from None


def shorten(replies: list[bytes], limit: int = 300) -> list[bytes]:
    """Make replies fit for a message: long ones keep their head, their tail and their length."""
    half = limit // 2
    return [r if len(r) <= limit else r[:half] + b"...(%d bytes)..." % len(r) + r[-half:] for r in replies]
