"""The store against a dict: whatever is done to it, it answers like a dict that may forget."""

from __future__ import annotations

import hypothesis.strategies as st
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from cacheserver.store.store import Store

KEYS = st.sampled_from([b"k%d" % i for i in range(24)] + [b"x" * 250])
SIZES = st.one_of(st.integers(0, 300), st.sampled_from([1000, 4000, 70_000, 300_000, 900_000, 1 << 20]))
MODES = st.sampled_from(["set", "add", "replace", "append", "prepend", "cas"])
NUMBERS = st.sampled_from([None, None, "ahead", 0, 1, 2**48, 2**63 - 1, 2**63, 2**64 - 1])
MAX_ITEM = 1 << 20


class Entry:
    def __init__(self, value: bytes, flags: int, exptime: int) -> None:
        self.value, self.flags, self.exptime = value, flags, exptime
        self.stale = self.won = False


class StoreModel(RuleBasedStateMachine):
    """`lossy`: the capacity is small, or a shrink was hard: any key may be gone; what is there is right."""

    @initialize(lossy=st.booleans(), shards=st.sampled_from([1, 4]))
    def start(self, lossy: bool, shards: int) -> None:
        self.lossy = lossy
        self.store = Store(shards=shards, capacity=(12 << 20) if lossy else 0)
        self.model: dict[bytes, Entry] = {}
        self.numbers: set[int] = set()  # all that the store has chosen itself
        self.now = 10
        self.step = 0

    def expect(self, key: bytes) -> Entry | None:
        """What the key must hold; in a lossy run a key that the store has lost is forgotten here, too."""
        entry = self.model.get(key)
        if entry is not None and entry.exptime and entry.exptime <= self.now:
            del self.model[key]
            entry = None
        if entry is not None and self.lossy and self.store.get(key, self.now) is None:
            del self.model[key]
            entry = None
        return entry

    def chosen(self, key: bytes, number: int | str | None) -> int | None:
        """A number for the item of a key: "ahead" is as far above its own as the store's may be driven."""
        held = self.store.get(key, self.now)
        ahead = min((held[2] if held else 0) + 2**48 - 5000, 2**64 - 1)
        return ahead if isinstance(number, str) else number

    def look_at_number(self, key: bytes, number: int | None) -> None:
        """An item just written has the number that was chosen for it, or one that none had before."""
        held = self.store.get(key, self.now)
        if held is None:
            return  # a model that expects the item finds out
        if number is not None:
            assert held[2] == number
        else:
            assert held[2] > 0
            assert held[2] not in self.numbers
            self.numbers.add(held[2])

    @rule(
        mode=MODES,
        key=KEYS,
        size=SIZES,
        flags=st.sampled_from([0, 1, 2**32 - 1]),
        ttl=st.integers(0, 20),
        wrong=st.sampled_from([0, 0, 1, -1]),
        tolerant=st.booleans(),
        number=NUMBERS,
    )
    def put(
        self,
        mode: str,
        key: bytes,
        size: int,
        flags: int,
        ttl: int,
        wrong: int,
        tolerant: bool,
        number: int | str | None,
    ) -> None:
        self.step += 1
        value = (b"%d:" % self.step * (size // 2 + 1))[:size]
        entry = self.expect(key)
        exptime = self.now + ttl if ttl else 0
        held = self.store.get(key, self.now)
        cas = ((held[2] if held else 7) + wrong) % 2**64
        stale = tolerant and held is not None and 0 < cas < held[2]
        number = self.chosen(key, number)
        got = self.store.put(
            mode, key, value, flags, exptime, cas=cas, now=self.now, tolerant=tolerant, number=number
        )
        if got == "STORED":
            self.look_at_number(key, number)
        if mode in ("append", "prepend"):
            if entry is None:
                assert got == "NOT_STORED"
                return
            joined = entry.value + value if mode == "append" else value + entry.value
            if 32 + len(key) + 4 * bool(entry.flags) + len(joined) > MAX_ITEM:
                assert got == "NOT_STORED"
            elif got == "STORED":
                entry.value = joined
                entry.stale = entry.won = False
            else:
                assert self.lossy
                assert got in ("NO_MEMORY", "NOT_STORED")
            return
        if 32 + len(key) + 4 * bool(flags) + len(value) > MAX_ITEM:
            assert got == "TOO_LARGE"
            return
        wanted = "STORED"
        if (mode == "add" and entry) or (mode == "replace" and not entry):
            wanted = "NOT_STORED"
        elif mode == "cas":
            wanted = "NOT_FOUND" if not entry else "EXISTS" if (wrong or not cas) and not stale else "STORED"
        if got == "NO_MEMORY" or (
            self.lossy and wanted in ("STORED", "EXISTS") and got in ("NOT_STORED", "NOT_FOUND")
        ):
            assert self.lossy
            if got != "NO_MEMORY" or mode == "set":  # the other modes leave what was there
                self.model.pop(key, None)
            return
        assert got == wanted
        if got == "STORED":
            new = self.model[key] = Entry(value, flags, exptime)
            if mode == "cas" and stale:
                assert entry is not None
                new.exptime, new.stale, new.won = entry.exptime, True, entry.won

    @rule(key=KEYS, number=NUMBERS, wrong=st.sampled_from([0, 1, -1]), tolerant=st.booleans())
    def number_and_compare(self, key: bytes, number: int | str | None, wrong: int, tolerant: bool) -> None:
        self.put("set", key, 3, 0, 0, 0, False, number)
        self.put("cas", key, 4, 0, 0, wrong, tolerant, None)

    @rule(
        key=KEYS,
        stale=st.booleans(),
        emptied=st.booleans(),
        wrong=st.sampled_from([None, None, 0, 1]),
        number=NUMBERS,
    )
    def remove(
        self, key: bytes, stale: bool, emptied: bool, wrong: int | None, number: int | str | None
    ) -> None:
        entry = self.expect(key)
        held = self.store.get(key, self.now)
        cas = None if wrong is None else ((held[2] if held else 7) + wrong) % 2**64
        number = self.chosen(key, number)
        got = self.store.remove(key, self.now, stale=stale, emptied=emptied, cas=cas, number=number)
        if got == "NO_MEMORY":
            assert self.lossy
            assert emptied
            return
        assert got == ("NOT_FOUND" if entry is None else "EXISTS" if wrong else "STORED")
        if entry is None or wrong:
            return
        if not stale and not emptied:
            del self.model[key]
            return
        if emptied:
            entry.value, entry.flags, entry.stale, entry.won = b"", 0, False, False
        if stale:
            entry.stale, entry.won = True, False
        self.look_at_number(key, number)

    @rule(key=KEYS, winning=st.booleans())
    def claim(self, key: bytes, winning: bool) -> None:
        entry = self.expect(key)
        got = self.store.claim(key, winning, self.now)
        if entry is None:
            assert got is None
            return
        wins = not entry.won and (winning or entry.stale)
        assert got == (entry.stale, entry.won, wins)
        entry.won = entry.won or wins

    @rule(key=KEYS)
    def get(self, key: bytes) -> None:
        entry = self.expect(key)
        got = self.store.get(key, self.now)
        if entry is None:
            assert got is None
        else:
            assert got is not None
            assert (got[0], got[1]) == (entry.value, entry.flags)

    @rule(key=KEYS)
    def delete(self, key: bytes) -> None:
        entry = self.expect(key)
        assert self.store.delete(key, self.now) == (entry is not None)
        self.model.pop(key, None)

    @rule(key=KEYS, ttl=st.integers(0, 20))
    def touch(self, key: bytes, ttl: int) -> None:
        entry = self.expect(key)
        exptime = self.now + ttl if ttl else 0
        assert self.store.touch(key, exptime, self.now) == (entry is not None)
        if entry:
            entry.exptime = exptime

    @rule(key=KEYS, number=st.integers(0, 2**64 - 1))
    def set_number(self, key: bytes, number: int) -> None:
        if self.store.put("set", key, b"%d" % number, now=self.now) == "STORED":
            self.model[key] = Entry(b"%d" % number, 0, 0)
        else:
            assert self.lossy
            self.model.pop(key, None)

    @rule(key=KEYS, incr=st.booleans(), delta=st.sampled_from([0, 1, 9, 2**32, 2**64 - 1]))
    def arith(self, key: bytes, incr: bool, delta: int) -> None:
        entry = self.expect(key)
        got = self.store.arith(key, incr, delta, self.now)
        if entry is None:
            assert got == "NOT_FOUND"
            return
        text = entry.value.strip(b" ")
        if len(entry.value) > 65536 or len(text) > 20 or not text.isdigit() or int(text) >= 2**64:
            assert got == "NOT_A_NUMBER"
            return
        if got == "NO_MEMORY":
            assert self.lossy
            return
        self.look_at_number(key, None)
        wanted = (int(text) + delta) % 2**64 if incr else max(0, int(text) - delta)
        assert got == wanted
        if len(b"%d" % wanted) > len(entry.value):  # a new item
            entry.stale = entry.won = False
        entry.value = (b"%d" % wanted).ljust(len(entry.value))

    @rule()
    def flush(self) -> None:
        self.store.flush()
        self.model.clear()
        assert self.store.snapshot()["curr_items"] == 0

    @rule(seconds=st.integers(1, 10))
    def pass_time(self, seconds: int) -> None:
        self.now += seconds
        self.store.maintain(self.now, 100_000)
        for key in list(self.model):
            entry = self.model[key]
            if entry.exptime and entry.exptime <= self.now:
                del self.model[key]

    @rule(manner=st.sampled_from(["lru", "s3fifo"]))
    def steer(self, manner: str) -> None:
        self.store.steer(manner)

    @rule(mebibytes=st.integers(1, 8), hard=st.booleans())
    def shrink(self, mebibytes: int, hard: bool) -> None:
        self.lossy = True
        self.store.shrink(mebibytes << 20, hard)
        for _ in range(10_000):
            if self.store.pay(1000) == 0:
                break

    @invariant()
    def books_balance(self) -> None:
        if not hasattr(self, "store"):
            return
        snap = self.store.snapshot()
        resident, untouched = self.store.ledger()
        assert resident >= 0
        assert untouched >= 0
        classes = snap["classes"].values()
        assert sum(c["number"] for c in classes) == snap["curr_items"]
        assert sum(c["used_chunks"] for c in classes) == snap["curr_items"]
        assert sum(c["mem_requested"] for c in classes) == snap["bytes"]
        assert snap["reserved"] == 0
        for of in (snap, *classes):
            parts = [of[f"bytes_{name}"] for name in ("live", "loose", "free", "meta")]
            assert min(parts) >= 0
            assert sum(parts) == of["bytes_committed"]
        assert snap["bytes_committed"] - snap["bytes_table"] == resident + untouched
        if not self.lossy:
            assert snap["curr_items"] == len(self.model)


TestStoreModel = StoreModel.TestCase
TestStoreModel.settings = settings(
    max_examples=60, stateful_step_count=50, deadline=None, suppress_health_check=list(HealthCheck)
)
