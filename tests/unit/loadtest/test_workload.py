"""Workloads and loads from names and values: what is taken, and what is said of what is not."""

from __future__ import annotations

from typing import Any

import pytest

from loadtest.workload import Load, Workload


def test_what_is_not_said_is_the_default() -> None:
    assert Workload.parse({}) == Workload()
    assert Load.parse({}) == Load()
    found = Workload.parse({"keys": 7, "get_share": 1, "fill": True, "ttl": "range:1-9"})
    assert found == Workload(keys=7, get_share=1.0, fill=True, ttl="range:1-9")
    assert Load.parse({"steps": [[1, 20], [2.5, 30]]}).steps == ((1.0, 20.0), (2.5, 30.0))


@pytest.mark.parametrize(
    ("words", "field"),
    [
        ({"protocol": "binary"}, "protocol"),
        ({"get_share": 1.1}, "get_share"),
        ({"get_share": float("nan")}, "get_share"),
        ({"multiget": 0}, "multiget"),
        ({"keys": 0}, "keys"),
        ({"keys": "many"}, "keys"),
        ({"keys": 2.5}, "keys"),
        ({"keys": True}, "keys"),
        ({"key_prefix": "a b"}, "key_prefix"),
        ({"key_prefix": "schlüssel"}, "key_prefix"),
        ({"key_size": "fixed:251"}, "key_size"),
        ({"key_size": "fixed:5"}, "key_size"),  # 100000 keys have 5 digits, and there is a prefix
        ({"value_size": "huge"}, "value_size"),
        ({"popularity": "zipf"}, "popularity"),
        ({"popularity": "zipf:0"}, "popularity"),
        ({"popularity": "hot:0.1"}, "popularity"),
        ({"popularity": "hot:2:0.5"}, "popularity"),
        ({"popularity": "scan:1"}, "popularity"),
        ({"ttl": "fixed:0"}, "ttl"),
        ({"ttl": "range:5-1"}, "ttl"),
        ({"backend_ms": -1}, "backend_ms"),
        ({"trace": "no/such/file"}, "trace"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_a_wrong_workload_names_its_field_in_one_line(words: dict[str, Any], field: str) -> None:
    with pytest.raises(ValueError, match=rf"\A{field}: [^\n]+\Z"):
        Workload.parse(words)


@pytest.mark.parametrize(
    ("words", "field"),
    [
        ({"connections": 0}, "connections"),
        ({"depth": 0}, "depth"),
        ({"rate": -1}, "rate"),
        ({"seconds": 0}, "seconds"),
        ({"processes": 0}, "processes"),
        ({"steps": [[1]]}, "steps"),
        ({"steps": [[2, 5], [1, 5]]}, "steps"),
        ({"steps": [[1, 0]]}, "steps: connections"),
        ({"steps": [[1, 0]], "rate": 5}, "steps: rate"),
    ],
)
def test_a_wrong_load_names_its_field_in_one_line(words: dict[str, Any], field: str) -> None:
    with pytest.raises(ValueError, match=rf"\A{field}: [^\n]+\Z"):
        Load.parse(words)
