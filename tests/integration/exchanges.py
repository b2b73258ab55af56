"""Well-formed conversations for the differential test: what to send, not what must come back.

Knows: the commands of the classic text protocol. Each exchange starts on a new connection with an empty
store. A step is bytes to send; `{cas}` in a later step stands for the last cas unique the server has told on
this connection and `{cas+1}` for a different one.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Exchange:
    """One conversation; `closes` says that the server is expected to end it."""

    name: str
    steps: tuple[bytes, ...]
    closes: bool = False


def talk(name: str, *steps: bytes) -> Exchange:
    return Exchange(name, steps)


def ends(name: str, *steps: bytes) -> Exchange:
    return Exchange(name, steps, closes=True)


def store(
    word: bytes, key: bytes, value: bytes, tail: bytes = b"", flags: bytes = b"0", exptime: bytes = b"0"
) -> bytes:
    """A storage request with a correct length."""
    return b"%b %b %b %b %d%b\r\n%b\r\n" % (word, key, flags, exptime, len(value), tail, value)


def put(key: bytes, value: bytes, flags: bytes = b"0", exptime: bytes = b"0") -> bytes:
    return store(b"set", key, value, flags=flags, exptime=exptime)


A = put(b"a", b"one")
GET_A = b"get a\r\n"
GETS_A = b"gets a\r\n"
K250 = b"k" * 250
WORDS = (b"set", b"add", b"replace", b"append", b"prepend")
LONG_AGO = b"1000000000"  # a Unix time in 2001
FAR_AHEAD = b"2000000000"  # a Unix time in 2033
MONTH = 2592000  # seconds: the largest relative exptime


def storage() -> list[Exchange]:
    found = []
    for word in WORDS:
        name = word.decode()
        found += [
            talk(f"{name} on a miss", store(word, b"a", b"new"), GET_A),
            talk(f"{name} on a hit", A, store(word, b"a", b"new", flags=b"7"), GET_A),
            talk(f"{name} noreply on a miss", store(word, b"a", b"new", b" noreply"), GET_A),
            talk(f"{name} noreply on a hit", A, store(word, b"a", b"new", b" noreply"), GET_A),
            talk(f"{name} of an empty value", put(b"a", b"x"), store(word, b"a", b""), GET_A),
            talk(f"{name} changes the cas unique", A, GETS_A, store(word, b"a", b"new"), GETS_A),
            talk(f"{name} with a key of 250 bytes", store(word, K250, b"new"), b"get " + K250 + b"\r\n"),
            talk(f"{name} surplus token", store(word, b"a", b"new", b" surplus"), GET_A),
            talk(f"{name} with an exptime in the past", A, store(word, b"a", b"new", exptime=b"-1"), GET_A),
        ]
    found += [
        talk("largest flags", put(b"a", b"x", flags=b"4294967295"), GET_A),
        talk("flags above 2^31", put(b"a", b"x", flags=b"2147483648"), GET_A),
        talk(
            "append keeps the flags",
            put(b"a", b"x", flags=b"9"),
            store(b"append", b"a", b"y", flags=b"3"),
            GET_A,
        ),
        talk("value of line ends", put(b"a", b"\r\n\r\nEND\r\n"), GET_A),
        talk("value of every byte", put(b"a", bytes(range(256)) * 4), GET_A),
        talk("value that looks like a command", put(b"a", b"get a\r\nquit\r\n"), GET_A),
        talk("several spaces between tokens", b"set  a   5  0    3  \r\nabc\r\n", b"get    a  \r\n"),
        talk("line ends with LF only", b"set a 0 0 3\nabc\r\n", b"get a\n"),
        talk("two sets in one packet", put(b"a", b"1") + put(b"b", b"2") + b"get a b\r\n"),
        talk("key of one byte", put(b"k", b"v"), b"get k\r\n"),
        talk("key with high bytes", put(b"\xc3\xa9\xff", b"v"), b"get \xc3\xa9\xff\r\n"),
        talk("key with a tab", put(b"a\tb", b"v"), b"get a\tb\r\n"),
        talk("key with control bytes", put(b"a\x01\x7f", b"v"), b"get a\x01\x7f\r\n"),
        talk("key with a NUL", put(b"a\x00b", b"v"), b"get a\x00b\r\n"),
        talk("key that is a command", put(b"get", b"v"), b"get get\r\n"),
        talk("key named noreply", put(b"noreply", b"v"), b"get noreply\r\n"),
        talk("keys differ by case", put(b"a", b"low") + put(b"A", b"up") + b"get a A\r\n"),
        talk("add after delete", A, b"delete a\r\n", store(b"add", b"a", b"new"), GET_A),
        talk("add after expiry", put(b"a", b"x", exptime=b"-1"), store(b"add", b"a", b"new"), GET_A),
        talk("replace after expiry", put(b"a", b"x", exptime=b"-1"), store(b"replace", b"a", b"new"), GET_A),
        talk(
            "append in front and behind",
            A,
            store(b"append", b"a", b">"),
            store(b"prepend", b"a", b"<"),
            GET_A,
        ),
        talk("value of 1000 bytes", put(b"a", b"v" * 1000), GET_A),
        talk("value of 2 KiB", put(b"a", b"v" * 2048), GET_A),
        talk("value of 16 KiB", put(b"a", b"0123456789abcdef" * 1024), GET_A),
        talk("value of 500 KiB", put(b"a", b"0123456789" * 51200), GET_A),
        talk("value just under the limit", put(b"a", b"v" * (1048576 - 1024)), GET_A),
        talk(
            "append to a large value", put(b"a", b"v" * 300000), store(b"append", b"a", b"w" * 300000), GET_A
        ),
        talk("set grows a value", put(b"a", b"v"), put(b"a", b"v" * 5000), GET_A),
        talk("set shrinks a value", put(b"a", b"v" * 5000), put(b"a", b"v"), GET_A),
    ]
    return found


def too_large() -> list[Exchange]:
    big = b"v" * 1048577
    found = []
    for word in (b"set", b"add", b"replace"):
        name = word.decode()
        found += [
            talk(f"{name} too large on a miss", store(word, b"a", big), GET_A),
            talk(f"{name} too large on a hit", A, store(word, b"a", big), GET_A),
            talk(f"{name} too large with noreply", A, store(word, b"a", big, b" noreply"), GET_A),
        ]
    found += [
        talk("set of exactly the limit", put(b"a", b"v" * 1048576), GET_A),
        talk("cas too large", A, GETS_A, b"cas a 0 0 1048577 {cas}\r\n" + big + b"\r\n", GET_A),
        talk(
            "the connection goes on after a value that is too large",
            put(b"a", big) + put(b"b", b"2"),
            b"get a b\r\n",
        ),
        talk(
            "append beyond the limit", put(b"a", b"v" * 700000), store(b"append", b"a", b"w" * 700000), GET_A
        ),
        talk(
            "prepend beyond the limit",
            put(b"a", b"v" * 700000),
            store(b"prepend", b"a", b"w" * 700000),
            GET_A,
        ),
    ]
    return found


def retrieval() -> list[Exchange]:
    ten = b"".join(put(b"k%d" % i, b"v%d" % i, flags=b"%d" % i) for i in range(10))
    many = b" ".join(b"key_%05d" % i for i in range(18000))
    hits = b"".join(store(b"set", b"key_%05d" % i, b"%d" % i, b" noreply") for i in range(0, 18000, 100))
    found = [
        talk("get of an unknown key", GET_A),
        talk("gets of an unknown key", GETS_A),
        talk("get of ten keys", ten, b"get " + b" ".join(b"k%d" % i for i in range(10)) + b"\r\n"),
        talk("get in the order asked", ten, b"get k9 k3 k7 k0\r\n"),
        talk("get of some unknown keys", ten, b"get x k1 y k2 z\r\n"),
        talk("get of the same key twice", A, b"get a a\r\n"),
        talk("gets of several keys", ten, b"gets k1 k2 x k3\r\n"),
        talk("gets of the same key twice", A, b"gets a a\r\n"),
        talk("cas uniques differ by key", ten, b"gets k0 k1 k2 k3 k4 k5 k6 k7 k8 k9\r\n"),
        talk("get does not change the cas unique", A, GETS_A, GET_A, GETS_A),
        talk("get with noreply asks for a key", A, b"get a noreply\r\n"),
        talk("get of 25 keys", ten, b"get " + b" ".join([b"k1"] * 25) + b"\r\n"),
        talk("get of 300 keys", ten, b"get " + b" ".join([b"k1", b"zz"] * 150) + b"\r\n"),
        talk("get of 18000 keys in one line", hits, b"get " + many + b"\r\n"),
        talk("gets of 18000 keys in one line", hits, b"gets " + many + b"\r\n"),
        talk("get of 18000 unknown keys", b"get " + many + b"\r\n"),
        talk("get line of 2 KiB", b"get " + b" ".join([K250] * 8) + b"\r\n"),
        talk("get with spaces around 18000 keys", hits, b"get   " + many.replace(b" ", b"  ") + b"   \r\n"),
        talk("get of a key of 250 bytes among others", put(K250, b"v"), b"get x " + K250 + b" y\r\n"),
        talk(
            "several large values in one get",
            put(b"a", b"1" * 90000) + put(b"b", b"2" * 70000) + b"get a b a\r\n",
        ),
    ]
    for word in (b"gat", b"gats"):
        name = word.decode()
        found += [
            talk(f"{name} of an unknown key", word + b" 100 a\r\n"),
            talk(f"{name} of one key", A, word + b" 100 a\r\n", GET_A),
            talk(f"{name} of several keys", ten, word + b" 0 k1 x k2 k1\r\n"),
            talk(f"{name} that expires", A, word + b" -1 a\r\n", GET_A),
            talk(f"{name} of an expired key", put(b"a", b"x", exptime=b"-1"), word + b" 100 a\r\n", GET_A),
            talk(f"{name} to a time long ago", A, word + b" " + LONG_AGO + b" a\r\n", GET_A),
            talk(f"{name} to a time ahead", A, word + b" " + FAR_AHEAD + b" a\r\n", GET_A),
            talk(f"{name} of 20 keys", ten, word + b" 9 " + b" ".join([b"k1", b"k2"] * 10) + b"\r\n"),
        ]
    return found


def compare_and_set() -> list[Exchange]:
    return [
        talk("cas on a miss", b"cas a 0 0 3 1\r\nnew\r\n", GET_A),
        talk("cas with the right unique", A, GETS_A, b"cas a 5 0 3 {cas}\r\nnew\r\n", GETS_A),
        talk("cas with a wrong unique", A, GETS_A, b"cas a 0 0 3 {cas+1}\r\nnew\r\n", GET_A),
        talk(
            "cas twice with one unique",
            A,
            GETS_A,
            b"cas a 0 0 1 {cas}\r\n1\r\n" + b"cas a 0 0 1 {cas}\r\n2\r\n",
            GET_A,
        ),
        talk("cas unique 0 on a hit", A, b"cas a 0 0 3 0\r\nnew\r\n", GET_A),
        talk("cas unique 0 on a miss", b"cas a 0 0 3 0\r\nnew\r\n", GET_A),
        talk("cas unique of 2^64-1", A, b"cas a 0 0 3 18446744073709551615\r\nnew\r\n", GET_A),
        talk("cas noreply that stores", A, GETS_A, b"cas a 0 0 3 {cas} noreply\r\nnew\r\n", GET_A),
        talk("cas noreply that does not", A, GETS_A, b"cas a 0 0 3 {cas+1} noreply\r\nnew\r\n", GET_A),
        talk("cas noreply on a miss", b"cas a 0 0 3 1 noreply\r\nnew\r\n", GET_A),
        talk(
            "cas after the key was set again",
            A,
            GETS_A,
            put(b"a", b"two"),
            b"cas a 0 0 3 {cas}\r\nnew\r\n",
            GET_A,
        ),
        talk("cas after delete", A, GETS_A, b"delete a\r\n", b"cas a 0 0 3 {cas}\r\nnew\r\n", GET_A),
        talk("cas after touch", A, GETS_A, b"touch a 100\r\n", b"cas a 0 0 3 {cas}\r\nnew\r\n", GET_A),
        talk(
            "cas after incr", put(b"a", b"1"), GETS_A, b"incr a 1\r\n", b"cas a 0 0 3 {cas}\r\nnew\r\n", GET_A
        ),
        talk(
            "cas after append",
            A,
            GETS_A,
            store(b"append", b"a", b"x"),
            b"cas a 0 0 3 {cas}\r\nnew\r\n",
            GET_A,
        ),
        talk("cas on an expired key", put(b"a", b"x", exptime=b"-1"), b"cas a 0 0 3 1\r\nnew\r\n", GET_A),
        talk("cas of an empty value", A, GETS_A, b"cas a 0 0 0 {cas}\r\n\r\n", GET_A),
        talk("cas with the unique of gats", A, b"gats 0 a\r\n", b"cas a 0 0 3 {cas}\r\nnew\r\n", GET_A),
        talk("cas that expires", A, GETS_A, b"cas a 0 -1 3 {cas}\r\nnew\r\n", GET_A),
    ]


def arithmetic() -> list[Exchange]:
    top = b"18446744073709551615"
    found = []
    for word in (b"incr", b"decr"):
        name = word.decode()
        found += [
            talk(f"{name} on a miss", word + b" a 1\r\n", GET_A),
            talk(f"{name} by 1", put(b"a", b"41"), word + b" a 1\r\n", GET_A),
            talk(f"{name} by 0", put(b"a", b"41"), word + b" a 0\r\n", GET_A),
            talk(f"{name} by 2^64-1", put(b"a", b"41"), word + b" a " + top + b"\r\n", GET_A),
            talk(f"{name} from 2^64-1", put(b"a", top), word + b" a 1\r\n", GET_A),
            talk(f"{name} noreply", put(b"a", b"41"), word + b" a 1 noreply\r\n", GET_A),
            talk(f"{name} noreply on a miss", word + b" a 1 noreply\r\n", GET_A),
            talk(f"{name} noreply on text", put(b"a", b"text"), word + b" a 1 noreply\r\n", GET_A),
            talk(f"{name} on text", put(b"a", b"text"), word + b" a 1\r\n", GET_A),
            talk(f"{name} on an empty value", put(b"a", b""), word + b" a 1\r\n", GET_A),
            talk(f"{name} on a negative number", put(b"a", b"-1"), word + b" a 1\r\n", GET_A),
            talk(f"{name} on 21 digits", put(b"a", b"1" * 21), word + b" a 1\r\n", GET_A),
            talk(f"{name} on a number with text behind", put(b"a", b"12x"), word + b" a 1\r\n", GET_A),
            talk(f"{name} on a value with trailing spaces", put(b"a", b"10   "), word + b" a 1\r\n", GET_A),
            talk(f"{name} on a value with leading spaces", put(b"a", b"   10"), word + b" a 1\r\n", GET_A),
            talk(f"{name} on leading zeros", put(b"a", b"00010"), word + b" a 1\r\n", GET_A),
            talk(f"{name} changes the cas unique", put(b"a", b"5"), GETS_A, word + b" a 1\r\n", GETS_A),
            talk(f"{name} keeps the flags", put(b"a", b"5", flags=b"77"), word + b" a 1\r\n", GET_A),
            talk(f"{name} on an expired key", put(b"a", b"5", exptime=b"-1"), word + b" a 1\r\n", GET_A),
            talk(f"{name} by a delta with leading zeros", put(b"a", b"50"), word + b" a 0007\r\n", GET_A),
        ]
    found += [
        talk(f"incr on {value!r}", put(b"a", value), b"incr a 1\r\n", GET_A)
        for value in (
            *(b"5" + b" " * 25, b" " * 25 + b"5", b" " * 30, b"5\tx", b"5\n", b"5 x", b"5\0", b"\t5", b"+5"),
            b"0" * 25 + b"5",
        )
    ]
    found += [
        talk("incr on a number and 100000 spaces", put(b"a", b"5" + b" " * 100000), b"incr a 1\r\n"),
        talk("incr grows the length", put(b"a", b"99"), b"incr a 1\r\n", GET_A),
        talk("incr grows by many digits", put(b"a", b"1"), b"incr a 999999999999\r\n", GET_A),
        talk("incr to the largest number", put(b"a", b"18446744073709551614"), b"incr a 1\r\n", GET_A),
        talk("decr below zero", put(b"a", b"5"), b"decr a 10\r\n", GET_A),
        talk("decr to zero", put(b"a", b"5"), b"decr a 5\r\n", GET_A),
        talk("decr gets shorter and is padded", put(b"a", b"100"), b"decr a 1\r\n", GET_A),
        talk("decr twice gets shorter", put(b"a", b"100"), b"decr a 1\r\n" + b"decr a 95\r\n", GET_A),
        talk("incr of a padded value", put(b"a", b"100"), b"decr a 1\r\n", b"incr a 1\r\n", GET_A),
        talk(
            "incr of a padded value stays padded",
            put(b"a", b"1000"),
            b"decr a 990\r\n",
            b"incr a 5\r\n",
            GET_A,
        ),
        talk(
            "append to a padded value", put(b"a", b"10"), b"decr a 1\r\n", store(b"append", b"a", b"5"), GET_A
        ),
        talk(
            "incr after wrapping to 0",
            put(b"a", b"18446744073709551615"),
            b"incr a 1\r\n",
            b"incr a 7\r\n",
            GET_A,
        ),
        talk("pipelined incr", put(b"a", b"0"), b"incr a 1\r\n" * 30, GET_A),
    ]
    return found


def removal() -> list[Exchange]:
    return [
        talk("delete of an unknown key", b"delete a\r\n"),
        talk("delete of a key", A, b"delete a\r\n", GET_A),
        talk("delete twice", A, b"delete a\r\ndelete a\r\n"),
        talk("delete noreply", A, b"delete a noreply\r\n", GET_A),
        talk("delete noreply of an unknown key", b"delete a noreply\r\n", GET_A),
        talk("delete with the old time 0", A, b"delete a 0\r\n", GET_A),
        talk("delete with the old time 0 and noreply", A, b"delete a 0 noreply\r\n", GET_A),
        talk("delete with the old time 5", A, b"delete a 5\r\n", GET_A),
        talk("delete of an expired key", put(b"a", b"x", exptime=b"-1"), b"delete a\r\n"),
        talk("delete of a key of 250 bytes", put(K250, b"x"), b"delete " + K250 + b"\r\n"),
        talk("touch of an unknown key", b"touch a 10\r\n"),
        talk("touch of a key", A, b"touch a 10\r\n", GET_A),
        talk("touch noreply", A, b"touch a -1 noreply\r\n", GET_A),
        talk("touch noreply of an unknown key", b"touch a 10 noreply\r\n"),
        talk("touch to now", A, b"touch a -1\r\n", GET_A),
        talk("touch to never", put(b"a", b"x", exptime=b"100"), b"touch a 0\r\n", GET_A),
        talk("touch to a time long ago", A, b"touch a " + LONG_AGO + b"\r\n", GET_A),
        talk("touch to a time ahead", A, b"touch a " + FAR_AHEAD + b"\r\n", GET_A),
        talk("touch of an expired key", put(b"a", b"x", exptime=b"-1"), b"touch a 100\r\n", GET_A),
        talk("touch keeps the cas unique", A, GETS_A, b"touch a 100\r\n", GETS_A),
        talk("exptime of 30 days", put(b"a", b"x", exptime=b"%d" % MONTH), GET_A),
        talk("exptime of 30 days and a second", put(b"a", b"x", exptime=b"%d" % (MONTH + 1)), GET_A),
        talk("exptime long ago", put(b"a", b"x", exptime=LONG_AGO), GET_A),
        talk("exptime ahead", put(b"a", b"x", exptime=FAR_AHEAD), GET_A),
        talk("largest exptime", put(b"a", b"x", exptime=b"2147483647"), GET_A),
        talk("smallest exptime", put(b"a", b"x", exptime=b"-2147483648"), GET_A),
        talk("negative exptime", put(b"a", b"x", exptime=b"-100"), GET_A),
        talk("flush_all", A, b"flush_all\r\n", GET_A),
        talk("flush_all 0", A, b"flush_all 0\r\n", GET_A),
        talk("flush_all noreply", A, b"flush_all noreply\r\n", GET_A),
        talk("flush_all 0 noreply", A, b"flush_all 0 noreply\r\n", GET_A),
        talk("flush_all of a negative time", A, b"flush_all -1\r\n", GET_A),
        talk(
            "flush_all does not hit what comes after", A, b"flush_all\r\n" + put(b"b", b"2") + b"get a b\r\n"
        ),
        talk("flush_all in one packet with its set", A + b"flush_all\r\n" + GET_A),
        talk("add after flush_all", A, b"flush_all\r\n", store(b"add", b"a", b"new"), GET_A),
        talk("incr after flush_all", put(b"a", b"1"), b"flush_all\r\nincr a 1\r\n"),
        talk("delete after flush_all", A, b"flush_all\r\ndelete a\r\n"),
        talk("delayed flush_all hits nothing yet", A, b"flush_all 100\r\n", GET_A),
        talk("delayed flush_all to a time ahead", A, b"flush_all " + FAR_AHEAD + b"\r\n", GET_A),
        talk(
            "delayed flush_all is taken back by a new one", b"flush_all 100\r\n" + A + b"flush_all\r\n", GET_A
        ),
    ]


def control() -> list[Exchange]:
    return [
        talk("version", b"version\r\n"),
        talk("verbosity", b"verbosity 1\r\n", b"verbosity 0\r\n"),
        talk("verbosity noreply", b"verbosity 0 noreply\r\n", GET_A),
        ends("quit", b"quit\r\n"),
        ends("quit with replies before it", A + GET_A + b"quit\r\n"),
        ends("quit drops what follows", A + b"quit\r\n" + GET_A),
        ends("quit after a large reply", put(b"a", b"v" * 900000) + GET_A + b"quit\r\n"),
        ends("quit after an error", b"nonsense\r\nquit\r\n"),
        talk(
            "pipelined sets and gets",
            b"".join(put(b"p%d" % i, b"%d" % i) + b"get p%d\r\n" % i for i in range(100)),
        ),
        talk(
            "pipelined noreply",
            b"".join(store(b"set", b"p%d" % i, b"x", b" noreply") for i in range(50)) + b"get p49\r\n",
        ),
        talk(
            "every command in one packet",
            A + b"append a 0 0 1\r\n!\r\ngat 0 a\r\ntouch a 0\r\nincr a 1\r\ndelete a\r\n" + GET_A,
        ),
    ]


def well_formed() -> list[Exchange]:
    """Return every exchange in this module."""
    groups = (storage, too_large, retrieval, compare_and_set, arithmetic, removal, control)
    return [exchange for group in groups for exchange in group()]
