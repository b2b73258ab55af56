"""A little of everything for a server to count, and its counts taken apart.

Knows: the replies' form.
"""

from __future__ import annotations

from tests.wire import Wire

Replies = dict[str, dict[str, str]]
KINDS = ("", "settings", "items", "slabs")

# A little of everything, each with its own number of hits and misses.
WORK = (
    b"set a 0 0 1\r\n1\r\nset b 0 0 3\r\nabc\r\nset c 0 0 1\r\n1\r\nset d 0 0 1\r\n1\r\n"
    b"get a b\r\nget a miss\r\ngets a\r\ngat 100 a\r\ngat 100 miss\r\n"
    b"incr a 1\r\nincr miss 1\r\nincr miss 1\r\ndecr a 1\r\ndecr a 1\r\ndecr miss 1\r\n"
    b"touch a 100\r\ntouch miss 100\r\ntouch miss 1\r\ndelete c\r\ndelete miss\r\ndelete miss\r\n"
    b"add a 0 0 1\r\nx\r\nreplace miss 0 0 1\r\nx\r\nappend b 0 0 1\r\nx\r\nprepend miss 0 0 1\r\nx\r\n"
    b"cas miss 0 0 1 1\r\nx\r\ncas a 0 0 1 999999\r\nx\r\ncas a 0 0 1 999999\r\nx\r\n"
    b"set large 0 0 2000000\r\n" + b"x" * 2_000_000 + b"\r\n"
    b"set gone 0 -1 1\r\nx\r\nget gone\r\nflush_all 1000\r\nflush_all x\r\nverbosity 0\r\n"
)


def work(wire: Wire) -> None:
    """Do WORK, and a cas that hits."""
    wire.send(WORK + b"gets a\r\nversion\r\n")
    reply, _ = wire.read_until(b"VERSION ")
    wire.read_line()
    unique = reply.rsplit(b"VALUE a 0 1 ", 1)[1].split(b"\r\n")[0]
    assert wire.ask(b"cas a 0 0 1 %b\r\n7\r\n" % unique) == b"STORED"


def classes(reply: dict[str, str], prefix: str) -> dict[str, dict[str, str]]:
    """Return the fields by class, as the exporter takes them apart."""
    found: dict[str, dict[str, str]] = {}
    for name, value in reply.items():
        parts = name.removeprefix(prefix).split(":")
        if len(parts) == 2:
            found.setdefault(parts[0], {})[parts[1]] = value
    return found
