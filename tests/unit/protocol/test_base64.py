"""Keys in base64: what goes in comes out, and nothing else is taken for base64."""

import base64
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.base64 import decode, encode


@given(st.binary(max_size=300))
def test_it_is_the_base64_everybody_else_writes(data: bytes) -> None:
    assert encode(data) == base64.b64encode(data)
    assert decode(encode(data)) == (data or None)


@given(st.text("ABCz019+/=-_ \n", max_size=12).map(str.encode))
def test_only_whole_padded_groups_of_the_alphabet_are_read(text: bytes) -> None:
    # The standard library would take padding behind a whole group.
    groups = re.fullmatch(rb"([\w+/]{4})*([\w+/]{4}|[\w+/]{3}=|[\w+/]{2}==)", text.replace(b"_", b"!"))
    assert decode(text) == (base64.b64decode(text) if groups else None)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"Z",
        b"Zg",
        b"Zg=",
        b"Z===",
        b"====",
        b"=Zg=",
        b"Zg==Zg==",
        b"Zm9v\n",
        b"Zm9*",
        b"Zm9\xff",
        b"Zm 9v",
    ],
)
def test_what_is_no_base64_is_refused(text: bytes) -> None:
    assert decode(text) is None
