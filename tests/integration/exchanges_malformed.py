"""Malformed conversations for the differential test: every error line, what is swallowed, what closes.

Knows: how the classic text protocol can be broken. After each exchange the test asks for a reply it knows, so
these also show that the connection is still in step.
"""

from __future__ import annotations

from tests.integration.exchanges import GET_A, K250, A, Exchange, ends, put, store, talk

K251 = b"k" * 251
DELTAS = (b"x", b"-1", b"+1", b"18446744073709551616", b"1x", b"1.5", b"")


def framing() -> list[Exchange]:
    return [
        talk("unknown command", b"nonsense\r\n"),
        talk("unknown command with arguments", b"nonsense a b c\r\n"),
        talk("command in upper case", b"GET a\r\n"),
        talk("command with a letter too many", b"gett a\r\n", b"sett a 0 0 1\r\n"),
        talk("part of a command", b"ge a\r\n", b"versio\r\n"),
        talk("empty line", b"\r\n"),
        talk("empty line with LF only", b"\n"),
        talk("line of one letter", b"x\r\n"),
        talk("line of spaces", b"     \r\n"),
        talk("leading space", A, b" get a\r\n"),
        talk("two unknown commands", b"foo\r\nbar\r\n"),
        talk("CR inside a line", b"get a\rb\r\n"),
        talk("NUL inside a command", b"ge\x00t a\r\n"),
        talk("bytes above 127", b"\xff\xfe\xfd\xfc\r\n"),
        talk("binary junk in a line", bytes(range(14, 32)) + b"\r\n"),
        talk("long unknown line of 2000 bytes", b"z" * 2000 + b"\r\n"),
        talk("long line of words", b"word " * 300 + b"\r\n"),
        ends("line of 3000 bytes without an end", b"z" * 3000),
        ends("set line of 3000 bytes without an end", b"set " + b"z" * 3000),
        ends("gat line of 3000 bytes without an end", b"gat 0 " + b"z" * 3000),
        ends("spaces without an end", b" " * 3000),
        ends("HTTP GET", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"),
        ends("HTTP POST", b"POST /x HTTP/1.0\r\nContent-Length: 3\r\n\r\nabc"),
        ends("HTTP after a good request", A, b"GET / HTTP/1.1\r\n\r\n"),
    ]


def storage_lines() -> list[Exchange]:
    found = []
    for word in (b"set", b"add", b"replace", b"append", b"prepend"):
        name = word.decode()
        found += [
            talk(f"{name} without arguments", word + b"\r\n"),
            talk(f"{name} without length", word + b" a 0 0\r\n"),
            talk(f"{name} with a key of 251 bytes", store(word, K251, b"abc"), b"get abc\r\n"),
            talk(f"{name} with bad flags", A, store(word, b"a", b"get a", flags=b"x"), GET_A),
            talk(f"{name} with a bad length", A, word + b" a 0 0 x\r\n", GET_A),
            talk(f"{name} with a negative length", A, word + b" a 0 0 -1\r\n", GET_A),
            talk(f"{name} with a bad end of data", A, word + b" a 0 0 3\r\nabcde\r\n", GET_A),
        ]
    found += [
        talk("set with only a key", b"set a\r\n"),
        talk("set with negative flags", store(b"set", b"a", b"abc", flags=b"-1"), GET_A),
        talk("set with a bad exptime", A, store(b"set", b"a", b"abc", exptime=b"x"), GET_A),
        talk(
            "set with bad flags and noreply", A, store(b"set", b"a", b"abc", b" noreply", flags=b"x"), GET_A
        ),
        talk("set with a key of 251 bytes on its own", b"set " + K251 + b" 0 0 0\r\n\r\n", GET_A),
        talk("set with a length beyond 32 bits", b"set a 0 0 99999999999\r\n", GET_A),
        talk("set with a length of 2^31-1", b"set a 0 0 2147483647\r\n", GET_A),
        talk("set with a length and text", b"set a 0 0 3x\r\n", GET_A),
        talk("set with too short data", put(b"a", b"old"), b"set a 0 0 10\r\nabc\r\ndefgh\r\n", GET_A),
        talk("set with too long data", put(b"a", b"old"), b"set a 0 0 3\r\nabcdefgh\r\n", GET_A),
        talk("set with data that ends in LF only", put(b"a", b"old"), b"set a 0 0 3\r\nabc\n\r\n", GET_A),
        talk("set with data that ends in CR CR", put(b"a", b"old"), b"set a 0 0 3\r\nabc\r\r\n", GET_A),
        talk("a bad end of data and a command behind it", A, b"set a 0 0 3\r\nabcXXget a\r\n", GET_A),
        talk("a bad end of data with noreply", A, b"set a 0 0 3 noreply\r\nabcXX\r\n", GET_A),
        talk("a bad end of data in a large value", A, b"set a 0 0 5000\r\n" + b"v" * 5002 + b"\r\n", GET_A),
        talk("set with noreply in the wrong case", store(b"set", b"a", b"abc", b" NOREPLY"), GET_A),
        talk("set with noreply and a token behind it", store(b"set", b"a", b"abc", b" noreply x"), GET_A),
        talk("set with noreply too early", b"set a 0 0 noreply\r\n", GET_A),
        talk("cas without arguments", b"cas\r\n"),
        talk("cas with a key only", b"cas a\r\n"),
        talk("cas with a bad unique", A, b"cas a 0 0 3 x\r\nabc\r\n", GET_A),
        talk("cas with a negative unique", A, b"cas a 0 0 3 -1\r\nabc\r\n", GET_A),
        talk("cas with a unique of 2^64", A, b"cas a 0 0 3 18446744073709551616\r\nabc\r\n", GET_A),
        talk("cas with a key of 251 bytes", b"cas " + K251 + b" 0 0 3 1\r\nabc\r\n", GET_A),
        talk("cas with bad flags", A, b"cas a x 0 3 1\r\nabc\r\n", GET_A),
        talk("cas with a bad length", A, b"cas a 0 0 x 1\r\n", GET_A),
        talk("cas with a bad end of data", A, b"cas a 0 0 3 1\r\nabcde\r\n", GET_A),
    ]
    return found


def retrieval_lines() -> list[Exchange]:
    found = []
    for word in (b"get", b"gets"):
        name = word.decode()
        found += [
            talk(f"{name} without a key", word + b"\r\n"),
            talk(f"{name} with spaces for a key", word + b"   \r\n"),
            talk(f"{name} of a key of 251 bytes", word + b" " + K251 + b"\r\n"),
            talk(f"{name} of a key of 1500 bytes", word + b" " + b"z" * 1500 + b"\r\n"),
            talk(f"{name} of a hit and a key of 251 bytes", A, word + b" a " + K251 + b"\r\n"),
            talk(f"{name} of a key of 251 bytes and a hit", A, word + b" " + K251 + b" a\r\n"),
            talk(f"{name} of a key of 251 bytes in the middle", A, word + b" a " + K251 + b" a\r\n"),
        ]
    for word in (b"gat", b"gats"):
        name = word.decode()
        found += [
            talk(f"{name} without arguments", word + b"\r\n"),
            talk(f"{name} without a key", word + b" 10\r\n"),
            talk(f"{name} with a bad exptime", A, word + b" x a\r\n", GET_A),
            talk(f"{name} of a key of 251 bytes", word + b" 10 " + K251 + b"\r\n"),
        ]
    return found


def other_lines() -> list[Exchange]:
    found = []
    for word in (b"incr", b"decr"):
        name = word.decode()
        found += [
            talk(f"{name} by {d!r}", put(b"a", b"5"), word + b" a " + d + b"\r\n", GET_A) for d in DELTAS
        ]
        found += [
            talk(f"{name} without arguments", word + b"\r\n"),
            talk(f"{name} without a delta", word + b" a\r\n"),
            talk(f"{name} with a key of 251 bytes", word + b" " + K251 + b" 1\r\n"),
            talk(f"{name} by noreply", put(b"a", b"5"), word + b" a noreply\r\n"),
        ]
    found += [
        talk("delete without a key", b"delete\r\n"),
        talk("delete with a key of 251 bytes", b"delete " + K251 + b"\r\n"),
        talk("touch without arguments", b"touch\r\n"),
        talk("touch without an exptime", b"touch a\r\n"),
        talk("touch with a bad exptime", A, b"touch a x\r\n", GET_A),
        talk("touch to a time beyond 31 bits", A, b"touch a 2147483648\r\n", GET_A),
        talk("version with a surplus token", b"version x\r\n"),
        talk("quit with a surplus token", b"quit x\r\n", b"get a\r\n"),
        talk("touch with a key of 251 bytes", b"touch " + K251 + b" 0\r\n"),
        talk("flush_all with text", A, b"flush_all x\r\n", GET_A),
        talk("flush_all with text and noreply", A, b"flush_all x noreply\r\n", GET_A),
        talk("verbosity without a level", b"verbosity\r\n"),
        talk("verbosity with text", b"verbosity x\r\n", b"verbosity foo bar my\r\n"),
        talk("verbosity with a negative level", b"verbosity -1\r\n"),
        talk("verbosity noreply without a level", b"verbosity noreply\r\n"),
        talk("verbosity with a surplus token", b"verbosity 0 0\r\n"),
        talk("flush_all with noreply in the wrong place", A, b"flush_all noreply x\r\n", GET_A),
        talk("flush_all with a surplus token", A, b"flush_all 0 1\r\n", GET_A),
        talk("flush_all with two surplus tokens", A, b"flush_all 100 2 3\r\n", GET_A),
        talk("incr with a surplus token", put(b"a", b"5"), b"incr a 1 2\r\n"),
        talk("incr with noreply twice", put(b"a", b"5"), b"incr a 1 noreply noreply\r\n", GET_A),
        talk("touch with a surplus token", A, b"touch a 0 x\r\n"),
        talk("touch with a token behind noreply", A, b"touch a 0 noreply x\r\n"),
        talk("shutdown where it is not enabled", b"shutdown\r\n"),
        talk("shutdown graceful where it is not enabled", b"shutdown graceful\r\n"),
        talk("stats of an unknown kind", b"stats nonsense\r\n"),
        talk("errors between good requests", A + b"foo\r\n" + GET_A + b"incr a 1\r\n" + b"bar\r\n" + GET_A),
        talk("a hundred errors in one packet", b"nonsense\r\n" * 100),
        talk(
            "a key of 250 bytes is fine everywhere",
            put(K250, b"5") + b"incr %b 1\r\ntouch %b 0\r\n" % (K250, K250),
        ),
    ]
    return found


def malformed() -> list[Exchange]:
    """Return every exchange in this module."""
    groups = (framing, storage_lines, retrieval_lines, other_lines)
    return [exchange for group in groups for exchange in group()]
