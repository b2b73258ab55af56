"""Requests with limits, the monitor's own and those from outside it."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from cacheserver.pressure import SHRINK_STOP, Context, Monitor
from cacheserver.pressure.registration import Registration
from cacheserver.pressure.sharing import ShrinkerSet
from tests.unit.pressure.conftest import HARD, Bench, HandSource

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
    assert shrinkers.ask(40 * SIZE, Context(hard=True, nodes=frozenset({0, 1}))) == (40 * SIZE, 40 * SIZE)
    assert (nodes.scanned(0), nodes.scanned(1)) == (30, 10)
    assert plain.asked == told.heard == []


def test_what_one_node_owes_is_not_taken_from_another(shrinkers: ShrinkerSet) -> None:
    nodes = Nodes()
    handle = register(shrinkers, nodes)
    nodes.busy = True
    shrinkers.ask(40 * SIZE, Context(nodes=frozenset({0, 1})))
    assert handle.owes(10**9, Context(nodes=frozenset({0}))) == 30 * SIZE
    assert handle.owes(10**9, Context(nodes=frozenset({1}))) == 0
    assert handle.owes(10**9, Context()) == 0
    nodes.busy = False
    nodes.scans.clear()
    shrinkers.ask(40 * SIZE, Context(nodes=frozenset({0, 1})))
    assert nodes.scanned(0) > 30
    assert nodes.scanned(1) < 10


def test_a_request_limited_to_a_group_asks_only_who_heeds_it(shrinkers: ShrinkerSet) -> None:
    plain, told, nodes = Plain(), Told(), Nodes()
    for one in (plain, told, nodes):
        register(shrinkers, one)
    assert shrinkers.ask(MIB, Context(group="tenant")).freed == MIB
    assert told.heard == [(MIB, Context(group="tenant"))]
    assert plain.asked == nodes.scans == []


def test_what_a_group_stayed_short_of_is_forgotten(shrinkers: ShrinkerSet) -> None:
    class Lazy(Told):
        def request_memory(self, target: int, hard: bool, context: Context | None = None) -> int:
            return 0

    handle = register(shrinkers, Lazy())
    shrinkers.ask(MIB, Context(group="tenant"))
    assert handle.owes(10**9, Context()) == handle.owes(10**9, Context(group="tenant")) == 0


def test_everybody_is_asked_when_nothing_limits_the_request(shrinkers: ShrinkerSet) -> None:
    plain, told, bound = Plain(), Told(), [0]

    def function(target: int, hard: bool, context: list[int] = bound) -> int:
        context[0] += target
        return target

    for one in (plain, told, function):
        register(shrinkers, one, count=lambda: MIB)
    shrinkers.ask(3 * MIB, HARD)
    assert plain.asked == bound == [MIB]
    assert told.heard == [(MIB, Context(hard=True))]


def test_count_is_told_the_limits_if_it_wants_them(shrinkers: ShrinkerSet) -> None:
    told = Told()
    register(shrinkers, told, count=lambda context: 1000 if context.group == "small" else MIB)
    assert shrinkers.ask(MIB, Context(group="small")).asked == 1000
    assert shrinkers.ask(MIB, Context(group="large")).asked == MIB


def test_who_cannot_be_told_not_to_block_is_not_asked_by_one_who_cannot_wait(shrinkers: ShrinkerSet) -> None:
    plain, told, nodes = Plain(), Told(), Nodes()

    def waits() -> int:
        raise AssertionError("would wait for a lock that the asker holds")

    register(shrinkers, plain)
    register(shrinkers, told, count=waits, ledger=waits)
    register(shrinkers, nodes)
    assert shrinkers.ask(400 * SIZE, Context(hard=True, may_block=False)).freed >= 400 * SIZE
    assert not told.heard[0][1].may_block  # type: ignore[union-attr]
    assert plain.asked == []


def test_a_class_that_claims_to_heed_limits_it_is_never_told_is_refused() -> None:
    class Deaf(Plain):
        node_aware = True

    with pytest.raises(TypeError, match="takes no context"):
        Registration("x", Deaf())
    with pytest.raises(ValueError, match="nodes is empty"):
        Context(nodes=frozenset())


def test_what_it_counts_on_one_node_is_not_shown_as_all_it_has(shrinkers: ShrinkerSet) -> None:
    handle = register(shrinkers, Nodes())
    shrinkers.count()
    shrinkers.ask(SIZE, Context(nodes=frozenset({1})))
    assert handle.can_free == 400 * SIZE


# -- of the monitor's own --


@pytest.mark.parametrize("used", [246 * MIB, 255 * MIB])  # softly, hard
@pytest.mark.parametrize("bound", [(1,), (0, 1), ()])
def test_who_can_tell_nodes_apart_is_asked_for_what_lies_on_those_that_bind_and_others_as_ever(
    used: int, bound: tuple[int, ...]
) -> None:
    source, plain, told, nodes = HandSource(256 * MIB), Plain(), Told(), Nodes()
    source.others, source.nodes = used, bound
    monitor = Monitor([source], clock=lambda: 1.0)
    for one in (plain, told, nodes):
        monitor.register_shrinker("x", one, count=None if one is nodes else lambda: 9 * MIB)  # type: ignore[arg-type]
    monitor.tick(1.0)
    assert {where for where, _ in nodes.scans} == ({frozenset((node,)) for node in bound} or {None})
    assert plain.asked
    assert {context.nodes for _, context in told.heard if context} == {None}


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
    with pytest.raises(TypeError):
        b.monitor.request(64e6, True)  # type: ignore[arg-type]


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


def test_callbacks_that_all_ask_for_a_tick_at_each_call_come_to_an_end() -> None:
    source, calls = HandSource(256 * MIB), 0
    source.others = 250 * MIB
    monitor = Monitor([source], clock=lambda: 1.0)

    def ask(*_: object) -> int:
        nonlocal calls
        calls += 1
        assert calls < 10_000
        monitor.tick(1.0)
        monitor.request(MIB, True)
        return MIB

    def shrink(target: int, hard: bool) -> int:
        return ask() - MIB  # nothing: one look is enough for a tick

    def ledger() -> tuple[int, int]:
        return ask(), 0

    handles = [
        monitor.register_shrinker("x", shrink, count=ask, grant=ask, ledger=ledger)  # type: ignore[arg-type]
        for _ in range(3)
    ]
    monitor.tick(1.0)
    assert calls > 12
    assert not any(handle.strikes for handle in handles)
