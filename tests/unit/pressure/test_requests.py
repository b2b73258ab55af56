"""Requests with limits, requests from outside the monitor, and shrinkers that come and go meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

import cacheserver.pressure as pressure
from cacheserver.pressure import SHRINK_STOP, Context, Monitor
from cacheserver.pressure.registration import Registration
from cacheserver.pressure.sharing import ShrinkerSet
from tests.unit.pressure.conftest import Bench, HandSource

MIB = 1 << 20
SIZE = 1000
Make = Callable[[int, int], Bench]


class Nodes:
    """Objects on two NUMA nodes; node 0 can be busy."""

    node_aware = True
    object_size, batch = SIZE, 1

    def __init__(self) -> None:
        self.there = {0: 300, 1: 100}
        self.busy = False
        self.scans: list[tuple[frozenset[int] | None, int]] = []

    def count_objects(self, context: Context) -> int:
        return sum(self.there[node] for node in context.nodes or self.there)

    def scan_objects(self, context: Context, n: int) -> int:
        self.scans.append((context.nodes, n))
        return SHRINK_STOP if self.busy and context.nodes == {0} else n

    def scanned(self, node: int) -> int:
        return sum(n for nodes, n in self.scans if nodes == {node})


class Told:
    """OSv's form with a context."""

    group_aware = True

    def __init__(self) -> None:
        self.heard: list[tuple[int, Context | None]] = []

    def request_memory(self, target: int, hard: bool, context: Context | None = None) -> int:
        self.heard.append((target, context))
        return target


class Plain:
    """Nobody tells it anything but bytes."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def request_memory(self, target: int, hard: bool) -> int:
        self.asked.append(target)
        return target


def register(shrinkers: ShrinkerSet, func: object, **more: object) -> Registration:
    handle = Registration("x", func, **more)  # type: ignore[arg-type]
    shrinkers.add(handle)
    return handle


@pytest.fixture
def shrinkers() -> ShrinkerSet:
    return ShrinkerSet()


def test_a_request_limited_to_nodes_asks_only_who_heeds_it_once_for_each_node(shrinkers: ShrinkerSet) -> None:
    plain, told, nodes = Plain(), Told(), Nodes()
    for one in (plain, told, nodes, lambda target, hard: target):
        register(shrinkers, one)
    assert shrinkers.ask(40 * SIZE, True, nodes=frozenset({0, 1})) == (40 * SIZE, 40 * SIZE)
    assert (nodes.scanned(0), nodes.scanned(1)) == (30, 10)
    assert plain.asked == told.heard == []


def test_what_one_node_owes_is_not_taken_from_another(shrinkers: ShrinkerSet) -> None:
    nodes = Nodes()
    handle = register(shrinkers, nodes)
    nodes.busy = True
    shrinkers.ask(40 * SIZE, False, nodes=frozenset({0, 1}))
    assert handle.owes(10**9, Context(nodes=frozenset({0}))) == 30 * SIZE
    assert handle.owes(10**9, Context(nodes=frozenset({1}))) == 0
    assert handle.owes(10**9, Context()) == 0
    nodes.busy = False
    nodes.scans.clear()
    shrinkers.ask(40 * SIZE, False, nodes=frozenset({0, 1}))
    assert nodes.scanned(0) > 30
    assert nodes.scanned(1) < 10


def test_a_request_limited_to_a_group_asks_only_who_heeds_it(shrinkers: ShrinkerSet) -> None:
    plain, told, nodes = Plain(), Told(), Nodes()
    for one in (plain, told, nodes):
        register(shrinkers, one)
    assert shrinkers.ask(MIB, False, group="tenant").freed == MIB
    assert told.heard == [(MIB, Context(group="tenant"))]
    assert plain.asked == nodes.scans == []


def test_what_a_group_stayed_short_of_is_forgotten(shrinkers: ShrinkerSet) -> None:
    class Lazy(Told):
        def request_memory(self, target: int, hard: bool, context: Context | None = None) -> int:
            return 0

    handle = register(shrinkers, Lazy())
    shrinkers.ask(MIB, False, group="tenant")
    assert handle.owes(10**9, Context()) == handle.owes(10**9, Context(group="tenant")) == 0


def test_everybody_is_asked_when_nothing_limits_the_request(shrinkers: ShrinkerSet) -> None:
    plain, told, bound = Plain(), Told(), [0]

    def function(target: int, hard: bool, context: list[int] = bound) -> int:
        context[0] += target
        return target

    for one in (plain, told, function):
        register(shrinkers, one, count=lambda: MIB)
    shrinkers.ask(3 * MIB, True)
    assert plain.asked == bound == [MIB]
    assert told.heard == [(MIB, Context(hard=True))]


def test_count_is_told_the_limits_if_it_wants_them(shrinkers: ShrinkerSet) -> None:
    told = Told()
    register(shrinkers, told, count=lambda context: 1000 if context.group == "small" else MIB)
    assert shrinkers.ask(MIB, False, group="small").asked == 1000
    assert shrinkers.ask(MIB, False, group="large").asked == MIB


def test_who_cannot_be_told_not_to_block_is_not_asked_by_one_who_cannot_wait(shrinkers: ShrinkerSet) -> None:
    plain, told, nodes = Plain(), Told(), Nodes()

    def waits() -> int:
        raise AssertionError("would wait for a lock that the asker holds")

    register(shrinkers, plain)
    register(shrinkers, told, count=waits, ledger=waits)
    register(shrinkers, nodes)
    assert shrinkers.ask(400 * SIZE, True, may_block=False).freed >= 400 * SIZE
    assert not told.heard[0][1].may_block  # type: ignore[union-attr]
    assert plain.asked == []


def test_a_class_that_claims_to_heed_limits_it_is_never_told_is_refused() -> None:
    class Deaf(Plain):
        node_aware = True

    with pytest.raises(TypeError, match="takes no context"):
        Registration("x", Deaf())
    with pytest.raises(ValueError, match="nodes is empty"):
        Context(nodes=frozenset())


# -- Monitor.request --


def test_a_request_from_outside_is_counted_and_keeps_caches_from_growing_back(bench: Make) -> None:
    b = bench(256 * MIB, 27 * MIB)
    b.step(0.2)
    assert b.granted > 0
    b.step(0.01)
    own = b.source.own
    assert b.monitor.request(5 * MIB, True) == (5 * MIB, 5 * MIB)
    assert b.granted_when_asked[-1] == 0
    b.step(0.4)
    assert b.source.own == own - 5 * MIB
    status = b.monitor.status()
    assert (status.shrinks_hard, status.bytes_asked_hard, status.bytes_released_hard) == (1, 5 * MIB, 5 * MIB)
    b.step(0.2)
    b.step(0.01)
    assert b.source.own > own
    assert b.monitor.request(MIB, False, nodes=frozenset({0})) == (0, 0)
    assert b.monitor.status().shrinks_soft == 0
    with pytest.raises(ValueError, match="target must be"):
        b.monitor.request(-1, True)
    with pytest.raises(ValueError, match="nodes is empty"):
        b.monitor.request(1, True, nodes=frozenset())


def test_a_request_waits_for_a_running_tick_unless_it_cannot() -> None:
    inside, leave, told = threading.Event(), threading.Event(), Told()

    def slow(target: int, hard: bool) -> int:
        inside.set()
        leave.wait(5)
        return target

    source = HandSource(256 * MIB)
    source.others = 250 * MIB
    monitor = Monitor([source])
    monitor.register_shrinker("slow", slow)
    monitor.register_shrinker("told", told)
    ticker = threading.Thread(target=lambda: monitor.tick(1.0))
    ticker.start()
    assert inside.wait(5)
    assert monitor.request(MIB, True, may_block=False) == (0, 0)
    asker = threading.Thread(target=lambda: monitor.request(7, True, group="tenant"))
    asker.start()
    asker.join(0.05)
    assert asker.is_alive()
    leave.set()
    asker.join(5)
    ticker.join(5)
    assert told.heard[-1] == (7, Context(hard=True, group="tenant"))


def test_a_callback_that_asks_in_its_turn_gets_nothing() -> None:
    monitor, nested = Monitor([]), []

    def asks(target: int, hard: bool) -> int:
        nested.append(monitor.request(target, hard))
        return target

    monitor.register_shrinker("x", asks)
    assert monitor.request(MIB, True) == (MIB, MIB)
    assert nested == [(0, 0)]
    assert monitor.request(MIB, True).freed == MIB


# -- register, unregister --


def test_the_same_name_may_be_registered_twice_and_the_handle_tells_them_apart() -> None:
    monitor, first, second = Monitor([]), Plain(), Plain()
    one, two = monitor.register_shrinker("x", first), monitor.register_shrinker("x", second)
    monitor.unregister_shrinker(one)
    monitor.request(MIB, True)
    assert (first.asked, second.asked) == ([], [MIB])
    with pytest.raises(ValueError, match="'x' is not registered"):
        monitor.unregister_shrinker(one)
    monitor.unregister_shrinker(two)


def test_a_callback_may_unregister_itself_and_those_after_it_in_the_same_request() -> None:
    monitor, later = Monitor([]), Plain()

    def last_words(target: int, hard: bool) -> int:
        monitor.unregister_shrinker(own)
        monitor.unregister_shrinker(other)
        with pytest.raises(ValueError, match="not registered"):
            monitor.unregister_shrinker(own)
        return 0

    own = monitor.register_shrinker("own", last_words, count=lambda: MIB)
    other = monitor.register_shrinker("later", later, count=lambda: MIB)
    assert monitor.request(2 * MIB, True).freed == 0
    assert later.asked == []
    assert not own.strikes
    assert monitor.request(MIB, True) == (0, 0)


def test_a_grant_may_unregister_the_next_one_before_its_own() -> None:
    monitor, granted = Monitor([HandSource(256 * MIB)]), []
    first = monitor.register_shrinker(
        "first", lambda t, h: 0, grant=lambda n: monitor.unregister_shrinker(second)
    )
    second = monitor.register_shrinker("second", lambda t, h: 0, grant=granted.append)
    monitor.tick(1.0)
    assert granted == []
    assert not first.strikes


def test_callbacks_of_the_shared_monitor_may_register_and_unregister_with_it() -> None:
    def running() -> int:
        return sum(t.name == "cacheserver-pressure" for t in threading.enumerate())

    later: list[Registration] = []
    known, replaced = threading.Event(), threading.Event()

    def grant(allowance: int) -> None:  # the first comes within register_shrinker, from its first tick
        if not later:
            later.append(pressure.register_shrinker("second", lambda t, h: 0, grant=ends))

    def ends(allowance: int) -> None:
        if len(later) == 1 and known.is_set():
            assert threading.current_thread().name == "cacheserver-pressure"
            pressure.unregister_shrinker(first)
            later.append(pressure.register_shrinker("third", lambda t, h: 0))
            replaced.set()

    first = pressure.register_shrinker("first", lambda t, h: 0, grant=grant)
    known.set()
    assert replaced.wait(5)
    assert running() == 1
    for handle in later:
        pressure.unregister_shrinker(handle)
    assert running() == 0


def test_the_shared_monitor_survives_being_stopped_from_its_own_thread() -> None:
    known, ended = threading.Event(), threading.Event()

    def grant(allowance: int) -> None:
        if known.is_set() and not ended.is_set():
            assert threading.current_thread().name == "cacheserver-pressure"
            pressure.unregister_shrinker(only)
            ended.set()

    only = pressure.register_shrinker("only", lambda t, h: 0, grant=grant)
    known.set()
    assert ended.wait(5)
    again = pressure.register_shrinker("again", lambda t, h: 0)
    pressure.unregister_shrinker(again)
    for thread in threading.enumerate():
        if thread.name == "cacheserver-pressure":
            thread.join(5)
            assert not thread.is_alive()
