"""A short run of the soak, and the proof that its values would show a wrong byte.

The long run is `python -m tests.soak`.
"""

from __future__ import annotations

import re

import pytest

from tests.servers import REPLACEMENT
from tests.soak import Plan, soak
from tests.values import WrongBytes, check, make


def test_not_one_wrong_byte_while_memory_is_taken_away(capsys: pytest.CaptureFixture[str]) -> None:
    total, totals = soak(Plan(seconds=8))
    with capsys.disabled():
        print(
            f"\nsoak: {total.operations} operations, {total.hits} hits,"
            f" {total.bytes_verified} bytes verified, {total.wrong} wrong, {totals}"
        )
    assert total.wrong == 0, "\n".join(total.messages)
    assert total.hits > 100
    assert total.sets > 100
    assert total.refused < total.sets / 10
    if not REPLACEMENT:
        counts = {name: int(value) for name, value in re.findall(r"(\w+)=(\d+)", totals)}
        assert counts["demands"] > 20
        assert counts["released"] > 10_000_000


def test_every_flipped_byte_and_every_mixture_shows() -> None:
    value = make(b"key", 7, 5000)
    assert check(b"key", value) == 7
    for at in (0, 3, 5, 9, 100, 4999):
        flipped = bytearray(value)
        flipped[at] ^= 1
        with pytest.raises(WrongBytes):
            check(b"key", bytes(flipped))
    for wrong in (
        value[:-1],
        value + b"x",
        value[:2500] + make(b"key", 8, 5000)[2500:],
        make(b"other", 7, 5000),
    ):
        with pytest.raises(WrongBytes):
            check(b"key", wrong)
