"""Request streams from files: who asked for which key, and how large the value was.

Knows: the forms in which traces are published. Must not know: servers, caches, what becomes of the requests.
Memory: a reader holds one block and what the decompressor needs; the length of a trace does not matter.

Forms, packed by xz, gzip, zstd or not at all:
  int32, int64   numbers of that many bytes, high byte first, without a header (Caffeine's simulator)
  lines          a number a line; others (comments, marks) are passed over (LIRS)
  arc            "start count ignored sequence" a line: a request for each of so many blocks (ARC)
  sized          "time key size" a line (AdaptSize, webcachesim)
"""

from __future__ import annotations

import contextlib
import gzip
import io
import lzma
import shutil
import subprocess
import sys
import zlib
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

zstandard: Any
try:
    import zstandard  # type: ignore[import-not-found, no-redef, unused-ignore]
except ModuleNotFoundError:
    zstandard = None

BLOCK = 1 << 16  # requests that are handed on at once
FORMS = ("int32", "int64", "lines", "arc", "sized")
PACKED = 1 << 14  # bytes unpacked at a time
LONGEST_LINE = 4096  # bytes; what is longer is no trace
COLUMNS = {1: "lines", 3: "sized", 4: "arc"}
TEXT = frozenset(b"0123456789 \t\r\n.-*")
BROKEN = (OSError, EOFError, lzma.LZMAError, zlib.error)


class TraceError(Exception):
    """What is wrong with a trace, in one line."""


@dataclass(frozen=True, slots=True)
class Block:
    """Some requests in their order: 64-bit keys, and bytes of value where the trace tells them."""

    keys: array[int]
    sizes: array[int] | None = None

    def __len__(self) -> int:
        return len(self.keys)


def requests(blocks: Iterable[Block]) -> Iterator[tuple[int, int | None]]:
    """Yield (key, bytes of value or None) one by one."""
    for block in blocks:
        if block.sizes is None:
            yield from ((key, None) for key in block.keys)
        else:
            yield from zip(block.keys, block.sizes, strict=True)


def first(blocks: Iterable[Block], count: int) -> Iterator[Block]:
    """Yield no more than the first `count` requests; of 0, all."""
    left = count
    for block in blocks:
        if count and len(block) >= left:
            yield Block(block.keys[:left], None if block.sizes is None else block.sizes[:left])
            return
        yield block
        left -= len(block)


def read(path: Path | str, form: str = "") -> Iterator[Block]:
    """Yield the requests of the file at `path`, whose `form` is looked up in it where it is not given.

    Raises TraceError where the file is no such trace, is damaged, or cannot be unpacked here.
    """
    path = Path(path)
    form = form or guess(path)
    if form not in FORMS:
        raise TraceError(f"{form!r} is no form of a trace: say one of {', '.join(FORMS)}")
    try:
        with unpacked(path) as file:
            if form in ("int32", "int64"):
                yield from _numbers(file, form)
            else:
                yield from _text(file, form)
    except TraceError as error:
        raise TraceError(f"{path}: {error}") from None
    except BROKEN as error:
        raise TraceError(f"{path} cannot be read: {error}") from None


def guess(path: Path) -> str:
    """Tell the form of a trace of text from its first line. Raises TraceError."""
    try:
        with unpacked(path) as file:
            head = file.read(LONGEST_LINE)
    except BROKEN as error:
        raise TraceError(f"{path} cannot be read: {error}") from None
    if not TEXT.issuperset(head):
        raise TraceError(f"{path} is not text: say whether it is of the form int32 or int64")
    columns = len(head.split(b"\n")[0].split())
    if columns not in COLUMNS:
        raise TraceError(f"{path} has {columns} columns, and no known form has: is it a trace?")
    return COLUMNS[columns]


# -- unpacking --


@contextlib.contextmanager
def unpacked(path: Path) -> Iterator[BinaryIO]:
    """Open a file for reading what it is packed from; its name tells how it is packed."""
    if path.suffix == ".xz":
        with lzma.open(path) as file:
            yield cast(BinaryIO, file)
    elif path.suffix == ".gz":
        with gzip.open(path) as file:
            yield cast(BinaryIO, file)
    elif path.suffix in (".zst", ".zstd"):
        with _zstd(path) as file:
            yield file
    else:
        with path.open("rb") as file:
            yield file


@contextlib.contextmanager
def _zstd(path: Path) -> Iterator[BinaryIO]:
    program = shutil.which("zstd")
    if zstandard is not None:
        with path.open("rb") as packed:
            try:
                yield io.BufferedReader(_Frames(packed), BLOCK)
            except zstandard.ZstdError as error:
                raise TraceError(f"cannot be unpacked: {error}") from None
    elif program is not None:
        yield from _piped([program, "-dcq", "--", str(path)])
    else:
        raise TraceError("unpacking needs zstandard: pip install zstandard, or install the program zstd")


class _Frames(io.RawIOBase):
    """What zstandard makes of a file; its own reader takes a file that ends too early for one that ends."""

    def __init__(self, packed: BinaryIO) -> None:
        self._packed = packed
        self._frame: Any = None  # being unpacked; None between two frames
        self._ahead = b""  # packed, of the next frame
        self._ready = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._ready:
            data = self._ahead or self._packed.read(PACKED)
            self._ahead = b""
            if not data:
                if self._frame is not None:
                    raise EOFError("the file ends before its data")
                return 0
            self._frame = self._frame or zstandard.ZstdDecompressor().decompressobj()
            self._ready = self._frame.decompress(data)
            if self._frame.eof:
                self._ahead = self._frame.unused_data
                self._frame = None
        count = min(len(buffer), len(self._ready))
        buffer[:count] = self._ready[:count]
        self._ready = self._ready[count:]
        return count


def _piped(argv: list[str]) -> Iterator[BinaryIO]:
    """Yield what a program writes; a complaint of it is an error where it was read to its end."""
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            yield cast(BinaryIO, process.stdout)
            if not process.stdout.read(1) and process.wait(10):
                raise TraceError(process.stderr.read(200).decode(errors="replace").strip().split("\n")[0])
        finally:
            process.kill()


# -- forms --


def _numbers(file: BinaryIO, form: str) -> Iterator[Block]:
    code = "i" if form == "int32" else "q"
    while data := file.read(BLOCK * 8):
        numbers = array(code)
        if len(data) % numbers.itemsize:
            raise TraceError(f"ends in the middle of a number: is it {form}?")
        numbers.frombytes(data)
        if sys.byteorder == "little":
            numbers.byteswap()
        for start in range(0, len(numbers), BLOCK):
            yield Block(array("q", numbers[start : start + BLOCK]))


def _text(file: BinaryIO, form: str) -> Iterator[Block]:
    parse = {"lines": _alone, "arc": _blocks, "sized": _with_size}[form]
    keys, sizes = array("q"), array("q")
    for number, line in enumerate(iter(lambda: file.readline(LONGEST_LINE), b""), 1):
        try:
            found, size = parse(line.split())
        except (ValueError, OverflowError):
            raise TraceError(f"line {number} is not of the form {form}: {line[:40]!r}") from None
        for key in found:
            keys.append(key)
            sizes.append(size)
            if len(keys) == BLOCK:
                yield Block(keys, sizes if form == "sized" else None)
                keys, sizes = array("q"), array("q")
    if keys:
        yield Block(keys, sizes if form == "sized" else None)


def _alone(words: list[bytes]) -> tuple[Iterable[int], int]:
    """A line of LIRS' traces: other things than numbers are marks."""
    return ((int(words[0]),) if len(words) == 1 and words[0].isdigit() else (), 0)


def _blocks(words: list[bytes]) -> tuple[Iterable[int], int]:
    start, count, _, _ = map(int, words)
    return range(_key(start), _key(start + count)), 0


def _with_size(words: list[bytes]) -> tuple[Iterable[int], int]:
    _, key, size = map(int, words)
    if not 0 <= size < 1 << 40:
        raise ValueError
    return (_key(key),), size


def _key(number: int) -> int:
    """The number, if 64 bits hold it."""
    if not 0 <= number < 1 << 63:
        raise OverflowError
    return number
