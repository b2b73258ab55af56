"""Python's heap: what an object takes, and handing what was freed on to the system.

Knows: CPython's objects, glibc's malloc. Must not know: caches, shrinkers.

What is deleted in Python goes to CPython's allocator (objects up to 512 bytes, in arenas of 1 MiB) or to
malloc (larger ones). Both keep it for the next object; the system sees it only when a whole arena is empty,
or when malloc is told to hand on its free pages: `trim`.
"""

from __future__ import annotations

import functools
import gc
import sys
import types
from collections.abc import Callable

OBJECTS_MAX = 1000  # looked at for one size; 0.3 ms

_LEAVES = frozenset((bytes, bytearray, str, int, float, bool, complex, type(None)))
# What an object refers to but does not own.
_SHARED = (
    type,
    types.ModuleType,
    types.FunctionType,
    types.BuiltinFunctionType,
    types.CodeType,
    types.FrameType,
)


def size_of(*things: object) -> int:
    """Bytes that `things` take with everything they refer to: an estimate.

    Classes, functions and modules are left out; other objects that are used elsewhere, too, are counted.
    After `OBJECTS_MAX` objects it stops, so for more it is too low.
    """
    total = looked_at = 0
    seen: set[int] = set()
    todo = list(things)
    while todo and looked_at < OBJECTS_MAX:
        thing = todo.pop()
        kind = type(thing)
        if id(thing) in seen or issubclass(kind, _SHARED):
            continue
        seen.add(id(thing))
        looked_at += 1
        total += sys.getsizeof(thing)
        if kind not in _LEAVES:
            todo += gc.get_referents(thing)
    return total


def trim() -> bool:
    """Have malloc hand its free pages on to the system. True when it had any; False, and nothing done, where
    malloc is not glibc's.

    Other threads that allocate wait meanwhile. It does nothing for objects of up to 512 bytes.
    """
    malloc_trim = _malloc_trim()
    return malloc_trim is not None and malloc_trim(0) == 1


@functools.cache
def _malloc_trim() -> Callable[[int], int] | None:
    try:
        import ctypes

        function = ctypes.CDLL(None).malloc_trim
        function.argtypes, function.restype = [ctypes.c_size_t], ctypes.c_int
    except (ImportError, OSError, AttributeError, TypeError):  # no ctypes, no such function
        return None
    return function
