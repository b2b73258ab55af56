"""Sends the same bytes to Debian's memcached and to this server and compares what comes back.

Knows: two running servers. The exchanges are data in the modules beside this one; replies that are known to
differ between the two versions of memcached are in `known_differences`, and there this server must give those
of 1.6.45.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from tests.integration.conversation import Conversation, hold, shorten
from tests.integration.exchanges import A, Exchange, put, talk, well_formed
from tests.integration.exchanges_control import control_lines
from tests.integration.exchanges_malformed import malformed
from tests.integration.exchanges_meta import meta_reads
from tests.integration.exchanges_meta_malformed import meta_malformed
from tests.integration.exchanges_meta_writes import meta_writes
from tests.integration.exchanges_stats import about_the_server
from tests.integration.known_differences import KNOWN_DIFFERENCES as CLASSIC_DIFFERENCES
from tests.integration.known_differences_meta import META_DIFFERENCES
from tests.requirements import missing
from tests.servers import Server, reference, serving

EXCHANGES = [
    *well_formed(),
    *malformed(),
    *meta_reads(),
    *meta_writes(),
    *meta_malformed(),
    *about_the_server(),
    *control_lines(),
]
KNOWN_DIFFERENCES = CLASSIC_DIFFERENCES | META_DIFFERENCES
COMPARES = re.compile(rb"(?:^|\n)(?:cas|m[gsda] [^\n]* C[0-9{])")  # a unique with what the item has
COMPARING = [e for e in EXCHANGES if any(map(COMPARES.search, e.steps)) and e.name not in KNOWN_DIFFERENCES]
REFERENCE_VERSION = b"1.6.18"  # the version the table of differences is about


def version(server: Server) -> bytes:
    with server.connect() as wire:
        return wire.ask(b"version\r\n").split()[1]


@pytest.mark.parametrize("exchange", EXCHANGES, ids=lambda exchange: exchange.name)
def test_same_bytes_same_replies(exchange: Exchange, server: Server, memcached: Server) -> None:
    known = KNOWN_DIFFERENCES.get(exchange.name)
    if known is None:
        expected = hold(memcached, exchange)
    elif version(server) == version(memcached):
        missing("the server under test is the reference itself")
    else:
        expected, _reason = known
    found = hold(server, exchange)
    # The shortened forms make a readable message; the whole replies are what counts.
    assert shorten(found) == shorten(expected)
    assert found == expected


@pytest.fixture(scope="module")
def pair_without_uniques() -> Iterator[list[Server]]:
    """A server under test and a reference that give their items no uniques: each has 0."""
    with ExitStack() as stack:
        yield [stack.enter_context(each("-C")) for each in (serving, reference)]


def hold_after_deleting(server: Server, exchange: Exchange) -> list[bytes]:
    """Hold an exchange where none of its keys is; under -C memcached's flush_all hits later sets, too."""
    words = {word for step in exchange.steps for word in step.split() if len(word) <= 250}
    with server.connect() as wire:
        wire.send(b"".join(b"delete %b noreply\r\n" % word for word in words))
        wire.ask(b"version\r\n")
        return Conversation(wire, exchange).hold()


@pytest.mark.parametrize("exchange", COMPARING, ids=lambda exchange: exchange.name)
def test_same_replies_where_items_have_no_uniques(
    exchange: Exchange, pair_without_uniques: list[Server]
) -> None:
    found, expected = (hold_after_deleting(each, exchange) for each in pair_without_uniques)
    assert shorten(found) == shorten(expected)
    assert found == expected


def test_there_are_enough_exchanges(capsys: pytest.CaptureFixture[str]) -> None:
    names = {exchange.name for exchange in EXCHANGES}
    steps = sum(len(exchange.steps) for exchange in EXCHANGES)
    with capsys.disabled():
        print(
            f"\n{len(EXCHANGES)} exchanges, {steps} steps, {len(KNOWN_DIFFERENCES)} known version differences"
        )
    assert len(names) == len(EXCHANGES) >= 600
    assert set(KNOWN_DIFFERENCES) <= names


@pytest.mark.parametrize(
    "exchange",
    [e for e in EXCHANGES if e.name in KNOWN_DIFFERENCES and "beyond 32 bits" not in e.name],
    ids=lambda exchange: exchange.name,
)
def test_the_table_of_differences_holds_no_stale_entry(exchange: Exchange, memcached: Server) -> None:
    if version(memcached) != REFERENCE_VERSION:
        missing(f"the installed memcached is not {REFERENCE_VERSION.decode()}, which Debian 12 has")
    assert hold(memcached, exchange) != KNOWN_DIFFERENCES[exchange.name][0]


@pytest.mark.parametrize("request_line", [b"delete a b c d e\r\n", b"delete a x y\r\n", b"delete a 0 0\r\n"])
def test_delete_refuses_surplus_tokens(request_line: bytes, server: Server) -> None:
    # libmemcached's conformance test wants an error here; 1.6.45 would ignore the surplus.
    with server.connect() as wire:
        wire.set(b"a", b"one")
        assert wire.ask(request_line).split()[0] in (b"ERROR", b"CLIENT_ERROR")
        assert wire.get(b"a") == b"one"


@pytest.fixture(scope="module")
def fresh_pair() -> Iterator[list[Server]]:
    """A server under test and a reference for the tests that let time go by."""
    with ExitStack() as stack:
        yield [stack.enter_context(serving()), stack.enter_context(reference())]


def hold_over_time(
    server: Server, before: list[Exchange], seconds: float, after: list[Exchange]
) -> list[list[bytes]]:
    """Hold the exchanges `before`, let time go by, hold those `after`: all against one unflushed store."""
    found = []
    for number, exchange in enumerate(before + after):
        if number == len(before):
            time.sleep(seconds)
        with server.connect() as wire:
            found.append(Conversation(wire, exchange).hold())
    return found


def both(pair: list[Server], before: list[Exchange], seconds: float, after: list[Exchange]) -> None:
    with ThreadPoolExecutor(2) as pool:
        ours, theirs = pool.map(lambda one: hold_over_time(one, before, seconds, after), pair)
    assert ours == theirs


def test_items_expire_at_the_same_time(fresh_pair: list[Server]) -> None:
    soon = b"%d" % (int(time.time()) + 2)
    before = [
        talk("short", put(b"short", b"x", exptime=b"2")),
        talk("absolute", put(b"absolute", b"x", exptime=soon)),
        talk("long", put(b"long", b"x", exptime=b"100")),
        talk("touched", put(b"touched", b"x") + b"touch touched 2\r\n"),
        talk("untouched", put(b"untouched", b"x", exptime=b"2") + b"touch untouched 100\r\n"),
        talk("gat", put(b"gat", b"x") + b"gat 2 gat\r\n"),
        talk("incr", put(b"incr", b"1", exptime=b"2") + b"incr incr 1\r\n"),
        talk("append", put(b"append", b"1", exptime=b"2") + b"append append 0 0 1\r\n2\r\n"),
        talk("again", put(b"again", b"1", exptime=b"2") + put(b"again", b"2")),
    ]
    keys = b" ".join(exchange.name.encode() for exchange in before)
    all_there = talk("all there", b"get " + keys + b"\r\n")
    after = [
        all_there,
        talk("add", b"add short 0 0 3\r\nnew\r\nget short\r\n"),
        talk("delete", b"delete touched\r\n"),
    ]
    both(fresh_pair, [*before, all_there], 3.2, after)


def test_a_delayed_flush_hits_what_was_stored_before_it_fires(fresh_pair: list[Server]) -> None:
    before = [talk("flush", A + b"flush_all 2\r\n" + put(b"b", b"2") + b"get a b\r\n")]
    after = [talk("get", b"get a b\r\n"), talk("store", put(b"c", b"3") + b"get a b c\r\n")]
    both(fresh_pair, before, 3.2, after)
