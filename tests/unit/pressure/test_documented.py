"""The examples of docs/pressure.md for programs: they are run as they are printed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from cacheserver.pressure import default_monitor

DOCS = Path(__file__).resolve().parents[3] / "docs" / "pressure.md"
MIB = 1 << 20


def test_the_examples_for_programs_give_memory_back_when_asked() -> None:
    _, section = DOCS.read_text().split("\n## For programs")
    asked_in_bytes, asked_in_objects, leaving = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    names: dict[str, Any] = {}
    exec(asked_in_bytes, names)
    exec(asked_in_objects, names)
    cache, pile = names["thumbnails"], names["Sessions"]()
    cache.files = {name: bytes(MIB) for name in range(8)}
    cache.size = 8 * MIB
    try:
        default_monitor().request(3 * MIB, True)
        assert cache.size <= 5 * MIB
        assert sorted(cache.files) == list(range(8))[-len(cache.files) :]
        pile.idle = list(range(300))
        handle = names["register_shrinker"]("more sessions", pile)
        default_monitor().request(cache.size + 100 * pile.object_size, True)
        names["unregister_shrinker"](handle)
        assert pile.count_objects(names["Context"]()) <= 200
    finally:
        exec(leaving, names)
