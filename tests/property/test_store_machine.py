"""Everything that moves memory, in random order: what is lost was evicted, and the books are always right.

The commands and their answers are `tests.property.test_store_model`'s; here come values in pieces, pins, the
index's growth, grants, shrinks, moved pages and walks. After each step the store is counted again from its
chunks, its ledger is compared with what the kernel says (mincore() over arena and indexes: the process's size
would count the interpreter, too), and every key that is gone must be an eviction more in its counters.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import initialize, invariant, precondition, rule

from cacheserver.store.holding import Pinned, Receiving
from cacheserver.walk import Walk
from tests.property.test_store_model import KEYS, MAX_ITEM, Entry, StoreModel

KIB = 1 << 10
MIB = 1 << 20
PAGE = MIB
SIDE = 36_864  # bytes beside a page that go back with it, at most
EXAMPLES = int(os.environ.get("CACHESERVER_TEST_EXAMPLES", "150"))  # more of them: a longer search
PIECES = st.sampled_from([0, 1, 200, 5000, 100_000, 300_000, 600_000, MAX_ITEM - 400])
PART = st.floats(0, 1)
HELD = 4  # values on their way in, and pins, at a time


class Model(dict[bytes, Entry]):
    """What the store should hold, and which of it has been there all the time since a walk began."""

    def __init__(self) -> None:
        super().__init__()
        self.steady: set[bytes] = set()

    def __delitem__(self, key: bytes) -> None:
        self.steady.discard(key)
        super().__delitem__(key)

    def pop(self, key: bytes, *default: object) -> Entry | None:  # type: ignore[override]
        self.steady.discard(key)
        return super().pop(key, None)

    def clear(self) -> None:
        self.steady.clear()
        super().clear()


class Upload:
    """A value that is being received, and what it will be."""

    def __init__(self, key: bytes, entry: Entry, receiving: Receiving) -> None:
        self.key, self.entry, self.receiving = key, entry, receiving

    def write(self, nbytes: int, now: int) -> None:
        at = len(self.entry.value) - self.receiving.missing
        self.receiving.write(self.entry.value[at : at + nbytes], now)


def dumped(text: bytes) -> Iterable[bytes]:
    """The keys of a dump's lines."""
    return (line[4 : line.index(b" ")] for line in text.splitlines())


class StoreMachine(StoreModel):
    """`lossy`: see StoreModel. `lost` counts what is gone without a command before its time was up."""

    @initialize(lossy=st.booleans(), calm=st.booleans(), shards=st.sampled_from([1, 1, 4]))
    def begin(self, lossy: bool, calm: bool, shards: int) -> None:
        super().start(lossy, shards)
        self.shards = shards
        self.calm = calm  # nobody asks for memory
        self.model: Model = Model()
        self.uploads: list[Upload] = []
        self.pins: list[tuple[bytes, bytes, Pinned]] = []
        self.walk: Walk | None = None
        self.met: list[bytes] = []
        self.lost = 0
        self.tiny = 0

    def start(self, lossy: bool, shards: int) -> None:
        """Not the model's: see begin()."""

    def shrink(self, mebibytes: int, hard: bool) -> None:
        """Not the model's: see shrink_softly() and shrink_hard()."""

    def teardown(self) -> None:
        if not hasattr(self, "store"):
            return
        for key, entry in list(self.model.items()):
            got = self.store.get(key, self.now)
            if got is not None:
                assert (got[0], got[1]) == (entry.value, entry.flags)
        self.uploads.clear()
        self.pins.clear()
        assert self.store.audit() == []
        assert self.store.snapshot()["reserved"] == 0

    # what the model knows

    def expire(self) -> None:
        for key in [k for k, entry in self.model.items() if entry.exptime and entry.exptime <= self.now]:
            del self.model[key]

    def present(self) -> set[bytes]:
        """The keys of all live items, by a dump, which does not count as a use of them."""
        walk, keys = Walk(self.store), list[bytes]()
        while not walk.done:
            keys += dumped(walk.lines("metadump", self.now, 0)[0])
        assert len(keys) == len(set(keys)), "a key was met twice"
        return set(keys)

    def look(self) -> None:
        """Compare the keys that are there with those that should be; forget what the store has evicted."""
        self.expire()
        present = self.present()
        assert present <= self.model.keys(), "a key is back"
        gone = self.model.keys() - present
        assert self.lossy or not gone, "a key is gone though nothing had to be"
        self.lost += len(gone)
        for key in gone:
            del self.model[key]
        assert self.lost <= self.store.snapshot()["evictions"], "a key is gone, and was not evicted"

    def expect(self, key: bytes) -> Entry | None:
        known = self.model.get(key)
        entry = super().expect(key)
        if known is not None and entry is None and not (known.exptime and known.exptime <= self.now):
            self.lost += 1
        return entry

    # values in pieces, and pins: no precondition asks for them, as what the store evicts is not the same each
    # time

    @rule(key=KEYS, size=PIECES, flags=st.sampled_from([0, 7]), ttl=st.integers(0, 20), part=PART)
    def reserve(self, key: bytes, size: int, flags: int, ttl: int, part: float) -> None:
        if len(self.uploads) == HELD:
            return
        self.step += 1
        value = (b"%d." % self.step * (size // 2 + 1))[:size]
        exptime = self.now + ttl if ttl else 0
        try:
            receiving = Receiving(self.store, key, size, flags, exptime, self.now)
        except MemoryError:
            assert self.lossy
            return
        upload = Upload(key, Entry(value, flags, exptime), receiving)
        upload.write(int(size * part), self.now)
        self.uploads.append(upload)

    @rule(which=st.integers(0, HELD - 1), part=PART)
    def progress(self, which: int, part: float) -> None:
        if not self.uploads:
            return
        upload = self.uploads[which % len(self.uploads)]
        upload.write(int(upload.receiving.missing * part), self.now)

    @rule(which=st.integers(0, HELD - 1), mode=st.sampled_from(["set", "set", "add", "replace"]))
    def commit(self, which: int, mode: str) -> None:
        if not self.uploads:
            return
        upload = self.uploads.pop(which % len(self.uploads))
        entry = self.expect(upload.key)
        upload.write(upload.receiving.missing, self.now)
        revoked = upload.receiving.revoked
        got = upload.receiving.commit(mode, now=self.now)
        wanted = "NOT_STORED" if (mode == "add" and entry) or (mode == "replace" and not entry) else "STORED"
        assert got == ("NO_MEMORY" if revoked else wanted)
        if got != "STORED":
            return
        self.model[upload.key] = upload.entry
        self.expire()

    @rule(which=st.integers(0, HELD - 1))
    def abandon(self, which: int) -> None:
        if not self.uploads:
            return
        self.uploads.pop(which % len(self.uploads)).receiving.abandon()

    @rule()
    def give_up_what_is_revoked(self) -> None:
        self.store.take_revoked()
        self.uploads = [each for each in self.uploads if not each.receiving.revoked]

    @rule(which=st.integers(0, 1 << 20))
    def pin(self, which: int) -> None:
        """Any item's value, and mostly that of one among thousands, if there are so many."""
        if not self.model or len(self.pins) == HELD:
            return
        keys = list(self.model)
        key = keys[which % len(keys)]
        entry = self.expect(key)
        try:
            pinned = Pinned(self.store, key, self.now)
        except KeyError:
            assert entry is None
            return
        assert entry is not None
        self.pins.append((key, entry.value, pinned))

    @rule(which=st.integers(0, HELD - 1), more=st.integers(-1, 1))
    def write_over_what_is_pinned(self, which: int, more: int) -> None:
        """A value as long as the pinned one, or nearly: without the pin it would take its place."""
        if not self.pins:
            return
        key, old, _ = self.pins[which % len(self.pins)]
        value = (b"over %d;" % self.step * (len(old) // 6 + 1))[: max(0, len(old) + more)]
        if self.store.put("set", key, value, now=self.now) == "STORED":
            self.model[key] = Entry(value, 0, 0)
        else:
            assert self.lossy or len(value) > MAX_ITEM - 300
            self.model.pop(key, None)

    @rule(which=st.integers(0, HELD - 1))
    def unpin(self, which: int) -> None:
        if not self.pins:
            return
        self.pins.pop(which % len(self.pins))[2].release()

    # many items

    @rule(
        again=st.booleans(),
        count=st.sampled_from([1, 60, 900, 6000]),
        size=st.sampled_from([0, 40, 1100, 1101, 1130, 20_000]),
        ttl=st.sampled_from([0, 0, 3, 15]),
    )
    def many(self, again: bool, count: int, size: int, ttl: int) -> None:
        """Up to 5 MiB at once; `again`: of what was there before. Neighbours expire at different times."""
        if self.lossy:
            self.look()
        begin = 0 if again else self.tiny
        count = min(count, 5 * MIB // (size + 1))
        self.tiny = max(self.tiny, begin + count)
        for number in range(begin, begin + count):
            key = b"t%d" % number
            value = (key * (size // 2))[:size]
            exptime = self.now + ttl + number // 500 % 5 if ttl else 0
            got = self.store.put("set", key, value, exptime=exptime, now=self.now)
            if got == "STORED":
                self.model[key] = Entry(value, 0, exptime)
            else:
                assert self.lossy
                assert got == "NO_MEMORY"
                self.model.pop(key)

    @rule(step=st.sampled_from([1, 2, 10]))
    def forget_many(self, step: int) -> None:
        self.expire()
        for key in sorted(key for key in self.model if key.startswith(b"t"))[::step]:
            assert self.store.delete(key, self.now) or self.lossy
            del self.model[key]

    @rule(step=st.sampled_from([1, 3]), times=st.integers(1, 2))
    def read_many(self, step: int, times: int) -> None:
        self.expire()
        for key in sorted(key for key in self.model if key.startswith(b"t"))[::step] * times:
            got = self.store.get(key, self.now)
            assert got[0] == self.model[key].value if got else self.lossy

    @precondition(lambda self: not self.calm)
    @rule(
        size=st.sampled_from([1100, 1130, 9000]),
        ttl=st.sampled_from([0, 15]),
        step=st.sampled_from([2, 10]),
        slices=st.integers(1, 60),
    )
    def thin_out(self, size: int, ttl: int, step: int, slices: int) -> None:
        """Pages with holes, some items in use, some pinned while their page is being emptied: what is moved
        when memory is asked for."""
        self.many(False, 6000, size, ttl)
        self.read_many(3, 2)
        self.forget_many(step)
        for part in range(1, HELD + 1):
            self.shrink_softly(MIB, slices, 0)
            if len(self.pins) < HELD and self.model:
                self.pin(len(self.model) * part // HELD)

    # the host's wishes, and the store's own

    @rule(seconds=st.sampled_from([1, 30, 100_000]), budget=st.sampled_from([0, 50, 100_000]))
    def jump(self, seconds: int, budget: int) -> None:
        self.now += seconds
        self.store.maintain(self.now, budget)

    @precondition(lambda self: not self.calm)
    @rule(nbytes=st.sampled_from([0, 100 * KIB, 3 * MIB, 100 * MIB]))
    def grant(self, nbytes: int) -> None:
        self.lossy = True
        self.store.grant(nbytes)

    @precondition(lambda self: not self.calm)
    @rule(nbytes=st.integers(1, 24 * MIB), slices=st.integers(0, 60), budget=st.sampled_from([0, 20, 1000]))
    def shrink_softly(self, nbytes: int, slices: int, budget: int) -> None:
        self.lossy = True
        self.release(nbytes, False)
        self.pay(slices, budget)

    @precondition(lambda self: not self.calm)
    @rule(slices=st.integers(1, 60), budget=st.sampled_from([0, 20, 1000]))
    def pay(self, slices: int, budget: int) -> None:
        for _ in range(slices):
            self.store.pay(budget)

    @precondition(lambda self: not self.calm)
    @rule(nbytes=st.one_of(st.integers(1, 24 * MIB), st.just(1 << 40)))
    def shrink_hard(self, nbytes: int) -> None:
        self.lossy = True
        self.release(nbytes, True)

    def release(self, nbytes: int, hard: bool) -> None:
        """Shrink, and see the memory go: what was given is gone, and no more than was asked for and a page.

        Indexes are counted by 64 KiB, however little of the last of them is in use.
        """
        before = self.store.resident()
        freed = self.store.shrink(nbytes, hard)
        assert before - self.store.resident() >= freed * 95 // 100 - 2 * 64 * KIB * self.shards
        assert freed <= nbytes + PAGE + SIDE

    @precondition(lambda self: not self.calm)
    @rule(giver=st.integers(-1, 300), taker=st.integers(0, 300), busiest=st.booleans())
    def reassign(self, giver: int, taker: int, busiest: bool) -> None:
        self.lossy = True  # the page's items may find no place elsewhere
        classes = self.store.snapshot()["classes"]
        if busiest and classes:
            giver = max(classes, key=lambda number: classes[number]["total_pages"])
        most = self.store.class_count
        got = self.store.reassign(min(giver, most), min(taker, most))
        assert got in ("OK", "BUSY", "NOSPARE", "SAME") or (got == "BADCLASS" and giver < 0)

    # a walk while all that happens

    @rule(batch=st.sampled_from([1, 7, 64]), upto=st.sampled_from([1, 3]))
    def step_walk(self, batch: int, upto: int) -> None:
        if self.walk is None:
            self.look()
            self.walk, self.met = Walk(self.store, batch=batch), []
            self.model.steady = set(self.model)
        for _ in range(upto):
            self.met += dumped(self.walk.lines("metadump", self.now, 0)[0])
        if self.walk.done:
            self.walk = None
            self.look()  # takes what is gone out of `steady`
            assert len(self.met) == len(set(self.met)), "a key was met twice"
            assert self.model.steady <= set(self.met), "a key was there all the time, and not met"

    # after each step

    def books_balance(self) -> None:
        """Not the model's: while something is held, there are more chunks in use than items."""

    @invariant()
    def is_sound(self) -> None:
        if not hasattr(self, "store"):
            return
        assert self.store.audit() == []
        for _, value, pinned in self.pins:
            assert pinned.value == value
        if len(self.model) < 2000 or self.step % 8 == 0:
            self.look()

    @invariant()
    def ledger_is_right(self) -> None:
        """Within 2 %, but for what the ledger counts coarsely: indexes by 64 KiB, pages by the chunk."""
        if not hasattr(self, "store"):
            return
        resident, (ledger, untouched) = self.store.resident(), self.store.ledger()
        snap = self.store.snapshot()
        pages = (ledger + untouched - snap["hash_bytes"]) // PAGE
        coarse = snap["hash_bytes"] + 4 * KIB * pages
        assert untouched >= 0
        assert abs(ledger - resident) <= resident * 2 // 100 + coarse


TestStoreMachine = StoreMachine.TestCase
TestStoreMachine.pytestmark = [pytest.mark.timeout(300 + 5 * EXAMPLES)]
TestStoreMachine.settings = settings(
    max_examples=EXAMPLES, stateful_step_count=50, deadline=None, suppress_health_check=list(HealthCheck)
)
