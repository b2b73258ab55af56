"""LruShrinker: a cache on an LruList, asked for bytes."""

from __future__ import annotations

from cacheserver.pressure import Context, LruList, LruShrinker, Monitor, Shrinker, lru_shrinker
from cacheserver.pressure.registration import Registration


class Files:
    """A cache of sized items on an LruList."""

    def __init__(self, sizes: dict[str, int]) -> None:
        self.sizes = dict(sizes)
        self.items: LruList[str] = LruList()
        self.freed: list[str] = []
        self.left_at_first = -1  # on the list, when the first was freed
        for name in sizes:
            self.items.add(name, node=len(name) % 2)
        self.shrinker = LruShrinker(self.items, self.free, self.sizes.__getitem__)

    def free(self, name: str) -> None:
        if name.startswith("bad"):
            raise OSError("cannot")
        assert not self.items.remove(name)  # it is off the list already
        if not self.freed:
            self.left_at_first = self.items.count()
        self.freed.append(name)


def test_an_lru_shrinker_frees_the_coldest_until_the_target_is_met_and_no_more() -> None:
    files = Files({"a0": 30, "a1": 30, "a2": 30, "a3": 30})
    assert isinstance(files.shrinker, Shrinker)
    assert files.shrinker.request_memory(50, False) == 60
    assert files.freed == ["a0", "a1"]
    assert files.shrinker.request_memory(500, True) == 60
    assert files.shrinker.request_memory(500, True) == 0


def test_an_lru_shrinker_goes_on_over_many_batches_and_keeps_to_its_node() -> None:
    files = Files({f"{number:04}{'x' * (number % 2)}": 10 for number in range(2000)})
    assert files.shrinker.request_memory(9000, True, Context(nodes=frozenset({1}))) == 9000
    assert all(len(name) % 2 == 1 for name in files.freed)
    assert (files.items.count((0,)), files.items.count((1,))) == (1000, 100)
    assert files.left_at_first == 2000 - lru_shrinker.BATCH


def test_an_lru_shrinker_contains_what_cannot_be_freed() -> None:
    files = Files({"bad1": 30, "good": 30, "bad2": 30, "fine": 30})
    assert files.shrinker.request_memory(60, True) == 60
    assert files.freed == ["good", "fine"]


def test_an_item_whose_size_fails_keeps_nothing_that_left_the_list_from_going() -> None:
    files = Files({"a0": 30, "a1": 30})
    del files.sizes["a1"]
    registration = Registration("files", files.shrinker.request_memory)
    assert registration.call(60, 60, 60, Context(hard=True)) == 0
    assert files.freed == ["a0"]
    assert files.items.count() == 1


def test_it_counts_by_the_sizes_it_sees_and_keeps_to_its_node() -> None:
    files = Files({f"{number:04}{'x' * (number % 2)}": 10 + 20 * (number % 2) for number in range(200)})
    assert files.shrinker.count() == 200 * 20
    assert files.shrinker.count(Context(nodes=frozenset({1}))) == 100 * 30
    assert files.shrinker.count(Context(nodes=frozenset({2}))) == 0
    assert (files.freed, files.items.count()) == ([], 200)


def test_who_cannot_wait_gets_nothing_since_freeing_may_want_the_lock_he_holds() -> None:
    files, monitor = Files({"a0": 30, "a1": 30}), Monitor([])
    monitor.register_shrinker("files", files.shrinker, count=files.shrinker.count)
    assert monitor.request(60, True, may_block=False) == (0, 0)
    assert files.freed == []
    assert monitor.request(60, True) == (60, 60)
