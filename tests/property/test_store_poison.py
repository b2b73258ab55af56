"""With AddressSanitizer compiled in, whoever touches what is free in the store is caught, to the byte.

Each misuse is a process of its own, since the report ends it. The bytes are touched through libc's memmove(),
which the sanitizer checks. Where nothing watches the tests are skipped; CACHESERVER_TEST_ASAN=1 says that
something should.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cacheserver.store.store import Store

WATCHED = Store().poisons
ROOT = Path(__file__).resolve().parents[2]
PRELUDE = """
import ctypes
from cacheserver.store.holding import Pinned, Receiving
from cacheserver.store.store import Store
store = Store()
into = ctypes.create_string_buffer(400_000)
def read(address, n): ctypes.memmove(into, address, n)
def write(address, n): ctypes.memmove(address, b"x" * n, n)
def value(key):
    with_pin = Pinned(store, key)
    address = with_pin.address
    with_pin.release()
    return address
store.put("set", b"a", b"1" * 101)
store.put("set", b"b", b"2" * 101)
store.put("set", b"large", b"3" * 300_000)
"""
RIGHT = """
read(value(b"a"), 101); read(value(b"b"), 101); read(value(b"large"), 300_000); write(value(b"a"), 101)
store.put("set", b"a", b"4" * 99); store.put("set", b"a", b"4" * 103); write(value(b"a"), 103)
upload = Receiving(store, b"c", 20_000); upload.write(b"5" * 20_000); upload.commit()
read(value(b"c"), 20_000)
store.shrink(1 << 30, True); store.put("set", b"a", b"6" * 101); read(value(b"a"), 101)
"""
WRONG = {
    "a byte behind a value": 'read(value(b"a") + 101, 1)',
    "a byte written behind a value": 'write(value(b"a") + 101, 1)',
    "a byte behind a large value": 'read(value(b"large") + 300_000, 1)',
    "a chunk that was never used": 'read(value(b"b") + 1000, 1)',
    "the rest of an overwritten value": 'store.put("set", b"a", b"7" * 99); read(value(b"a") + 99, 1)',
    "a deleted item": 'old = value(b"a"); store.delete(b"a"); read(old, 1)',
    "a large item that is gone": 'old = value(b"large"); store.delete(b"large"); read(old, 1)',
    "a page that was flushed": 'old = value(b"a"); store.flush(); read(old, 1)',
    "a page that is back at the host": 'old = value(b"a"); store.shrink(1 << 30, True); write(old, 1)',
    "a pin given back, the item gone": (
        'pin = Pinned(store, b"a"); store.delete(b"a"); old = pin.address; '
        "read(old, 101); pin.release(); read(old, 1)"
    ),
}


@pytest.fixture(scope="module", autouse=True)
def watched() -> None:
    assert WATCHED or os.environ.get("CACHESERVER_TEST_ASAN") != "1", (
        "the store was built without the sanitizer"
    )
    if not WATCHED:
        pytest.skip("built without AddressSanitizer")


def run(code: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-c", PRELUDE + code + "\nprint('done')"],
        cwd=ROOT,
        capture_output=True,
        timeout=60,
        check=False,
    )


def test_proper_use_is_let_be() -> None:
    done = run(RIGHT)
    assert done.stdout == b"done\n", done.stderr.decode()


@pytest.mark.parametrize("code", WRONG.values(), ids=WRONG.keys())
def test_it_is_caught(code: str) -> None:
    done = run(code)
    assert done.stdout == b""
    # It has no name for a word that is poisoned in part.
    assert (
        b"AddressSanitizer: use-after-poison" in done.stderr
        or b"AddressSanitizer: unknown-crash" in done.stderr
    )
