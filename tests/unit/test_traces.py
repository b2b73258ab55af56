"""Traces and laws: what the readers of the load tests make of small files, whole, damaged and wrong."""

from __future__ import annotations

import gzip
import json
import lzma
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from loadtest.streams import Distributions, make
from loadtest.traces import BLOCK, TraceError, first, read, requests
from tests.requirements import missing


def test_numbers_are_read_high_byte_first(tmp_path: Path) -> None:
    four, eight = tmp_path / "a.xz", tmp_path / "b"
    four.write_bytes(lzma.compress(struct.pack(">4i", 1, -2, 3, 1)))
    eight.write_bytes(struct.pack(">3q", 1 << 40, -2, 3))
    assert [key for key, _ in requests(read(four, "int32"))] == [1, -2, 3, 1]
    assert [key for key, _ in requests(read(eight, "int64"))] == [1 << 40, -2, 3]


def test_the_form_of_text_is_found_out(tmp_path: Path) -> None:
    lines, arc, sized = tmp_path / "lines.gz", tmp_path / "arc", tmp_path / "sized"
    lines.write_bytes(gzip.compress(b"7\r\n*\r\n8\r\n7\r\n"))
    arc.write_text("10 3 0 1\n11 1 0 2\n")
    sized.write_text("1 5 100\n2 6 0\n")
    assert list(requests(read(lines))) == [(7, None), (8, None), (7, None)]
    assert list(requests(read(arc))) == [(10, None), (11, None), (12, None), (11, None)]
    assert list(requests(read(sized))) == [(5, 100), (6, 0)]


def test_a_trace_longer_than_a_block_is_read_to_its_end_and_cut_where_asked(tmp_path: Path) -> None:
    path = tmp_path / "long"
    path.write_text(f"0 {3 * BLOCK + 5} 0 1\n")
    assert [len(block) for block in read(path)] == [BLOCK, BLOCK, BLOCK, 5]
    keys = [key for key, _ in requests(first(read(path), BLOCK + 1))]
    assert keys == list(range(BLOCK + 1))
    assert sum(len(block) for block in first(read(path), 0)) == 3 * BLOCK + 5


def test_zstd_is_unpacked(tmp_path: Path) -> None:
    plain = tmp_path / "trace"
    plain.write_text("".join(f"{number}\n" for number in range(BLOCK)))
    packed = zstd(plain)
    assert [key for key, _ in requests(read(packed))] == list(range(BLOCK))
    packed.write_bytes(packed.read_bytes()[:-20])
    with pytest.raises(TraceError):
        list(read(packed, "lines"))


def zstd(path: Path) -> Path:
    """Pack a file by the module or the program, whichever is there; they are what the reader takes, too."""
    packed = path.with_suffix(".zst")
    program = shutil.which("zstd")
    if program is not None:
        subprocess.run([program, "-q", str(path), "-o", str(packed)], check=True)
        return packed
    try:
        import zstandard  # type: ignore[import-not-found, unused-ignore]
    except ModuleNotFoundError:
        missing("neither the program 'zstd' nor the package 'zstandard' is installed")
    packed.write_bytes(zstandard.compress(path.read_bytes()))
    return packed


@pytest.mark.parametrize(
    ("content", "form", "says"),
    [
        (b"1\n2\n", "arc", "line 1 is not of the form arc"),
        (b"1 2 3\n1 2 x\n", "sized", "line 2 is not of the form sized"),
        (b"1 2 -3\n", "sized", "line 1 is not of the form sized"),
        (b"\x00\x00\x00\x01\x00", "int32", "middle of a number"),
        (b"\x00\x00\x00\x01", "", "of the form int32 or int64"),
        (b"1 2 3 4 5\n", "", "5 columns"),
        (b"1\n", "int16", "no form"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(tmp_path: Path, content: bytes, form: str, says: str) -> None:
    path = tmp_path / "trace"
    path.write_bytes(content)
    with pytest.raises(TraceError) as error:
        list(read(path, form))
    assert says in str(error.value)
    assert "\n" not in str(error.value)


def test_a_damaged_archive_and_a_missing_file_are_errors(tmp_path: Path) -> None:
    path = tmp_path / "trace.xz"
    path.write_bytes(lzma.compress(bytes(range(256)) * 4096)[:-30])
    with pytest.raises(TraceError, match="cannot be read"):
        list(read(path, "int32"))
    with pytest.raises(TraceError, match="cannot be read"):
        list(read(tmp_path / "nothing", "int32"))


def drawn(words: str, count: int) -> list[int]:
    return [key for key, _ in requests(first(make(words), count))]


def test_laws_repeat_themselves_and_differ_by_their_seed() -> None:
    for law in ("zipf", "scan", "shift"):
        assert drawn(law, 200_000) == drawn(law, 200_000)
        assert drawn(law, 1000) != drawn(f"{law}:seed=2", 1000)


def test_laws_do_what_they_say() -> None:
    assert drawn("loop:keys=3", 7) == [0, 1, 2, 0, 1, 2, 0]
    keys = drawn("zipf:keys=1000,skew=1.0", 100_000)
    assert set(keys) <= set(range(1000))
    assert keys.count(0) == pytest.approx(100_000 / 7.4855, rel=0.05)  # 7.4855: the sum of 1/1 .. 1/1000
    keys = drawn("scan:keys=100,every=50,length=30", 400)
    fresh = [key for key in keys if key >= 100]
    assert fresh == list(range(100, 250))
    assert all(key >= 100 for key in keys[50:80])
    before, after = (drawn(f"shift:keys=1000,every=50000,share={share}", 100_000) for share in (0, 1))
    assert before[:50_000] == after[:50_000]
    tops = [max(set(half), key=half.count) for half in (after[:50_000], after[50_000:])]
    assert tops[0] != tops[1]


@pytest.mark.parametrize("words", ["zip", "zipf:size=1", "zipf:keys=many", "loop:keys=0", "loop:keys=1e99"])
def test_words_that_make_no_law_are_refused(words: str) -> None:
    with pytest.raises(TraceError):
        make(words)


def test_distributions_give_popularity_and_sizes(tmp_path: Path) -> None:
    popularity = {"oneHits": 0.1, "popularityBuckets": [10, 990], "popularityWeights": [50, 50]}
    (tmp_path / "pop.json").write_text(json.dumps(popularity))
    sizes = {"valSizeRange": [64, 1000], "valSizeRangeProbability": [30, 10]}
    (tmp_path / "sizes.json").write_text(json.dumps(sizes))
    found = list(requests(first(Distributions(tmp_path).stream(1000), 50_000)))
    often = sum(key < 10 for key, _ in found)
    lone = [key for key, _ in found if key >= 1000]
    assert often == pytest.approx(0.45 * 50_000, rel=0.05)
    assert len(lone) == len(set(lone)) == pytest.approx(5000, rel=0.1)
    of = dict(found)
    assert all(of[key] == size for key, size in found)
    assert sum(of[key] == 64 for key in range(1000)) == pytest.approx(750, rel=0.1)
    assert set(of.values()) == {64, 1000}


def test_sizes_lie_within_their_ranges_where_those_are_given(tmp_path: Path) -> None:
    (tmp_path / "pop.json").write_text('{"popularityBuckets": [1], "popularityWeights": [1]}')
    (tmp_path / "sizes.json").write_text(
        '{"valSizeRange": [10, 20, 1000], "valSizeRangeProbability": [1, 3]}'
    )
    distributions = Distributions(tmp_path)
    sizes = [distributions.size(key) for key in range(4000)]
    assert sum(size < 20 for size in sizes) == pytest.approx(1000, rel=0.1)
    assert min(sizes) == 10
    assert 950 < max(sizes) < 1000
    (tmp_path / "sizes.json").write_text('{"valSizeRange": [10], "valSizeRangeProbability": [1, 3]}')
    with pytest.raises(TraceError, match="lengths differ"):
        Distributions(tmp_path)
