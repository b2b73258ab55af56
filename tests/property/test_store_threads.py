"""The store used by several threads while its memory is asked for: values are whole, the books are right.

`tests.soak` does the same over sockets, for longer.
"""

from __future__ import annotations

import os
import random
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from cacheserver.store.holding import Pinned, Receiving
from cacheserver.store.store import Store
from cacheserver.walk import Walk

MIB = 1 << 20
SECONDS = float(os.environ.get("CACHESERVER_TEST_SECONDS", "3"))
THREADS = 3
SIZES = (0, 60, 61, 100, 900, 5000, 20_000, 200_000, 700_000)
KEYS = 3000


def value_of(key: bytes, version: int, size: int) -> bytes:
    """`size` bytes or a little more that tell key, version and their own length."""
    head = b"%s/%d/%d/" % (key, version, size)
    return head + bytes([version % 251]) * (size - len(head))


def check(key: bytes, value: bytes) -> None:
    """The value is one that was stored under the key, as a whole; a number counts, too."""
    if value.strip(b" ").isdigit():
        return
    name, version, size, _ = value.split(b"/", 3)
    assert name == key
    assert value == value_of(key, int(version), int(size))


class User(threading.Thread):
    """One thread of random operations; what it cannot bear is kept in `error`."""

    def __init__(self, store: Store, number: int, until: float) -> None:
        super().__init__(name=f"user {number}")
        self._store, self._until = store, until
        self._dice = random.Random(number)
        self._uploads: list[tuple[bytes, bytes, Receiving]] = []
        self._pins: list[tuple[bytes, bytes, Pinned]] = []
        self._version = number * 1_000_000
        self.operations = 0
        self.hits = 0
        self.error: BaseException | None = None

    def run(self) -> None:
        turns = (self._put, self._put, self._get, self._get, self._get, self._receive, self._pin, self._rest)
        try:
            while time.monotonic() < self._until:
                self._dice.choice(turns)(b"key%d" % int(self._dice.paretovariate(0.3) % KEYS))
                self.operations += 1
        except BaseException as error:
            self.error = error
        self._uploads.clear()
        self._pins.clear()

    def _value(self, key: bytes) -> bytes:
        self._version += 1
        return value_of(key, self._version, self._dice.choice(SIZES))

    def _put(self, key: bytes) -> None:
        mode = self._dice.choice(("set", "set", "set", "add", "replace"))
        self._store.put(mode, key, self._value(key), exptime=self._dice.choice((0, 0, 2, 4)), now=tell())

    def _get(self, key: bytes) -> None:
        got = self._store.get(key, tell())
        if got is not None:
            self.hits += 1
            check(key, got[0])

    def _receive(self, key: bytes) -> None:
        """Begin a value, or go on with one."""
        if len(self._uploads) < 3:
            value = self._value(key)
            try:
                self._uploads.append((key, value, Receiving(self._store, key, len(value), now=tell())))
            except MemoryError:
                return
        at = self._dice.randrange(len(self._uploads))
        key, value, receiving = self._uploads[at]
        done = len(value) - receiving.missing
        receiving.write(value[done : done + self._dice.randrange(1, 200_000)], tell())
        if receiving.revoked:
            receiving.abandon()
        elif receiving.missing:
            return
        else:
            receiving.commit(self._dice.choice(("set", "add")), now=tell())
        del self._uploads[at]

    def _pin(self, key: bytes) -> None:
        """Hold a value for a while, and see that it stays."""
        try:
            pinned = Pinned(self._store, key, tell())
            self._pins.append((key, pinned.value, pinned))
        except KeyError:
            pass
        if len(self._pins) > 3:
            key, value, pinned = self._pins.pop(self._dice.randrange(len(self._pins)))
            check(key, value)
            assert pinned.value == value

    def _rest(self, key: bytes) -> None:
        what = self._dice.randrange(6)
        if what == 0:
            self._store.delete(key, tell())
        elif what == 1:
            self._store.touch(key, tell() + self._dice.randrange(1, 9), tell())
        elif what == 2:
            self._store.put("set", key, b"%d" % self._version, now=tell())
        elif what == 3:
            self._store.arith(key, True, 1, tell())
        elif what == 4:
            self._store.claim(key, now=tell())
        else:
            self._store.remove(key, tell(), stale=True)


def tell() -> int:
    """The store's clock: ten of its seconds are one of ours, so that things expire."""
    return int(time.monotonic() * 10) + 10


def press(store: Store, dice: random.Random) -> None:
    """One of the things that the host and the server's own threads ask of a store."""
    what = dice.randrange(8)
    if what == 0:
        store.shrink(dice.randrange(1, 8 * MIB), True)
    elif what == 1:
        store.shrink(dice.randrange(1, 8 * MIB), False)
    elif what <= 3:
        store.pay(500)
    elif what == 4:
        store.grant(dice.choice((0, MIB, 64 * MIB)))
    elif what == 5:
        store.reassign(dice.choice((-1, 0, dice.randrange(1, 60))), dice.randrange(0, 60))
    else:
        store.maintain(tell(), 500)


def walk_over(store: Store, dice: random.Random) -> None:
    """A dump, in which each key is met once at most."""
    walk, keys = Walk(store, batch=dice.choice((3, 64))), list[bytes]()
    while not walk.done:
        keys += (line[4 : line.index(b" ")] for line in walk.lines("metadump", tell(), 0)[0].splitlines())
    assert len(keys) == len(set(keys))


class Background(threading.Thread):
    def __init__(self, store: Store, turn: Callable[[Store, random.Random], None], until: float) -> None:
        super().__init__(name=turn.__name__)
        self._store, self._turn, self._until = store, turn, until
        self.turns = 0
        self.error: BaseException | None = None

    def run(self) -> None:
        dice = random.Random(99)
        try:
            while time.monotonic() < self._until:
                self._turn(self._store, dice)
                self.turns += 1
        except BaseException as error:
            self.error = error


@contextmanager
def quick_turns() -> Iterator[None]:
    """The interpreter changes threads often, so that few operations run one after the other."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(0.0002)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def test_threads_share_a_store_whose_memory_is_asked_for() -> None:
    store = Store(shards=4)
    store.grant(64 * MIB)
    until = time.monotonic() + SECONDS
    users = [User(store, number, until) for number in range(1, THREADS + 1)]
    background = [Background(store, press, until), Background(store, walk_over, until)]
    threads: list[User | Background] = [*users, *background]
    with quick_turns():
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    errors = [thread.error for thread in threads if thread.error is not None]
    assert not errors, errors
    assert min(user.operations for user in users) > 100
    assert sum(user.hits for user in users) > 100
    assert min(each.turns for each in background) > 1
    snap = store.snapshot()
    assert snap["evictions"] > 0
    assert snap["released_hard"] > 0
    assert store.audit() == []
    store.flush()
    store.shrink(1 << 40, True)
    assert store.audit() == []
    assert store.snapshot()["curr_items"] == 0
    assert store.snapshot()["reserved"] == 0
