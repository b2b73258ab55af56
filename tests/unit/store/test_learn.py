"""The learner: what it chooses where the best is known, and what it does as the cache changes its size."""

from __future__ import annotations

import bisect
import itertools
import random
from collections.abc import Iterator

import pytest

from cacheserver.store.learn import Lessons

HALF_POINT = 0.005
LEAST_LEAD = 0.004  # below it a lead is left to chance
Stream = Iterator[int]


def hashed(key: int) -> int:
    """64 bits that look random (the finalizer of splitmix64)."""
    key = (key + 0x9E3779B97F4A7C15) & (2**64 - 1)
    key = (key ^ key >> 30) * 0xBF58476D1CE4E5B9 & (2**64 - 1)
    key = (key ^ key >> 27) * 0x94D049BB133111EB & (2**64 - 1)
    return key ^ key >> 31


def zipf(rng: random.Random, keys: int, skew: float) -> Stream:
    weights = list(itertools.accumulate((i + 1) ** -skew for i in range(keys)))
    while True:
        yield bisect.bisect(weights, rng.random() * weights[-1])


def loop(keys: int) -> Stream:
    return itertools.cycle(range(keys))


def scans(rng: random.Random) -> Stream:
    """Popular keys, and long rows of keys that nobody asks for again."""
    popular = zipf(rng, 20_000, 0.9)
    fresh = itertools.count(1_000_000)
    while True:
        yield from itertools.islice(popular, 9_000)
        yield from itertools.islice(fresh, 3_000)


def moving(rng: random.Random) -> Stream:
    """Blocks of keys that are read through a few times and never again: only recency tells."""
    start = 0
    while True:
        block = rng.randrange(100, 700)
        for _ in range(rng.randrange(2, 5)):
            yield from range(start, start + block)
        start += block


def ratios(lessons: Lessons) -> list[float]:
    hits, reads = lessons.scores
    return [each / reads for each in hits]


def lru(lessons: Lessons) -> int:
    return lessons.shares.index(0)


STREAMS = {
    "loop": (lambda rng: loop(1_500), 600),
    "scans": (scans, 1_000),
    "moving": (moving, 720),
    "popular": (lambda rng: zipf(rng, 20_000, 1.0), 400),
}


@pytest.mark.parametrize("name", STREAMS)
def test_the_choice_is_nearly_the_best_of_all_and_never_worse_than_lru(name: str) -> None:
    stream, items = STREAMS[name]
    lessons = Lessons(items)
    lessons.read(map(hashed, itertools.islice(stream(random.Random(1)), 150_000)))
    hit = ratios(lessons)
    assert hit[lessons.choice] >= max(hit) - HALF_POINT
    assert hit[lessons.choice] >= hit[lru(lessons)] - LEAST_LEAD
    assert max(hit) - min(hit) > 4 * HALF_POINT, "a stream for which it matters"


def test_plain_lru_is_chosen_where_only_recency_tells_and_left_where_popularity_lasts() -> None:
    lessons = Lessons(720)
    assert lessons.choice != lru(lessons)
    lessons.read(map(hashed, itertools.islice(moving(random.Random(2)), 60_000)))
    assert lessons.choice == lru(lessons)
    lessons.read(map(hashed, itertools.islice(zipf(random.Random(2), 20_000, 1.0), 60_000)))
    assert lessons.choice != lru(lessons)
    hit = ratios(lessons)
    assert hit[lessons.choice] > hit[lru(lessons)] + 0.03


def test_the_trials_of_a_large_cache_see_the_hit_ratios_of_a_small_one_at_its_scale() -> None:
    small, large = Lessons(1_000), Lessons(32_000)
    small.read(map(hashed, itertools.islice(loop(2_000), 100_000)))
    large.read(map(hashed, itertools.islice(loop(64_000), 1_000_000)))
    assert small.sampling == (0, 1_000)
    assert large.sampling == (5, 1_000)
    assert ratios(large) == pytest.approx(ratios(small), abs=0.08)  # a loop's hits come in turns
    assert large.choice == small.choice


def test_a_cache_that_grows_and_shrinks_keeps_what_was_learnt() -> None:
    lessons = Lessons(1_000)
    stream = map(hashed, moving(random.Random(3)))
    lessons.resize(720)
    lessons.read(itertools.islice(stream, 60_000))
    before = ratios(lessons)
    lessons.resize(16 * 720)
    assert lessons.sampling[0] == 3
    assert ratios(lessons) == before
    assert lessons.choice == lru(lessons)
    lessons.read(itertools.islice(stream, 60_000))
    assert lessons.sampling == (3, 1_440)
    lessons.resize(720)
    assert lessons.sampling == (0, 720)
    lessons.read(itertools.islice(stream, 60_000))
    assert lessons.choice == lru(lessons)


def test_memory_is_bounded_whatever_is_read() -> None:
    lessons = Lessons(10**12)
    assert lessons.nbytes < 300_000
    rng = random.Random(4)
    for items in (1_536, 10**12, 1, 1_000, 3_000):
        lessons.resize(items)
        lessons.read(rng.getrandbits(64) for _ in range(20_000))
        for _ in range(20_000):
            lessons.store(rng.getrandbits(64))
        assert 0 < lessons.known <= 4096 or items == 10**12


def test_a_read_that_finds_nothing_puts_nothing_in_the_trials() -> None:
    lessons = Lessons(1_000)
    keys = [hashed(i) for i in range(500)]
    lessons.read(keys, found=False)
    assert lessons.known == 0
    for key in keys:
        lessons.store(key)
    assert lessons.known == 500
    assert max(ratios_of_one_more_epoch(lessons, keys)) == 1.0


def ratios_of_one_more_epoch(lessons: Lessons, keys: list[int]) -> list[float]:
    """The hit ratios since the last look, by what scores and reads grew after at most 5 % decay."""
    hits, reads = lessons.scores
    lessons.read(keys * 2, found=False)
    after, all_reads = lessons.scores
    return [min(1.0, (b - a * 0.9) / max(all_reads - reads, 1)) for a, b in zip(hits, after, strict=True)]


def test_what_is_deleted_is_missed_by_every_trial() -> None:
    lessons = Lessons(1_000)
    keys = [hashed(i) for i in range(500)]
    for key in keys:
        lessons.store(key)
    for key in keys[:400]:
        lessons.delete(key)
    assert lessons.known == 100
    lessons.delete(keys[0])
    lessons.read(keys, found=False)
    hits, reads = lessons.scores
    assert reads == 500
    assert hits == [100.0] * len(hits)
