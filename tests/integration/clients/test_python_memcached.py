"""python-memcached over a real socket."""

from __future__ import annotations

from typing import Any

import pytest

from tests.integration.clients.tools import BIG_RANDOM, BIG_TEXT, address_of, past, require_module
from tests.servers import Server


@pytest.fixture
def client(server: Server) -> Any:
    memcache = require_module("memcache")
    client = memcache.Client([address_of(server)], socket_timeout=5, cache_cas=True)
    yield client
    client.disconnect_all()


def test_python_memcached_stores_and_reads(client: Any) -> None:
    assert client.set("key", "value")
    assert client.get("key") == "value"
    assert client.get("absent") is None
    assert not client.add("key", "other")
    assert client.add("new", {"a": 1})
    assert client.get("new") == {"a": 1}
    assert client.replace("key", "other")
    assert not client.replace("absent", "other")
    assert client.append("key", ">")
    assert client.prepend("key", "<")
    assert client.get("key") == "<other>"
    assert client.set_multi({f"key{number}": number for number in range(100)}) == []
    found = client.get_multi([f"key{number}" for number in range(101)])
    assert found == {f"key{number}": number for number in range(100)}
    assert client.delete_multi(["key1", "key2"])
    assert client.get_multi(["key1", "key2", "key3"]) == {"key3": 3}
    assert client.delete("key")
    assert client.get("key") is None


def test_python_memcached_counts_touches_and_compares(client: Any) -> None:
    client.set("n", 9)
    assert client.incr("n") == 10
    assert client.decr("n", 4) == 6
    assert client.incr("absent") is None
    client.set("gone", "x", time=past())
    assert client.get("gone") is None
    client.set("key", "one", time=100)
    assert client.touch("key", 200)
    assert client.gets("key") == "one"
    client.set("key", "from elsewhere")
    assert not client.cas("key", "two")
    assert client.gets("key") == "from elsewhere"
    assert client.cas("key", "two")
    assert client.touch("key", past())
    assert client.get("key") is None


def test_python_memcached_moves_big_values(client: Any) -> None:
    assert client.set("big", BIG_RANDOM)
    assert client.get("big") == BIG_RANDOM
    assert client.set("text", BIG_TEXT, min_compress_len=1000)
    assert client.get("text") == BIG_TEXT


def test_python_memcached_does_not_wait_with_noreply(client: Any) -> None:
    for number in range(100):
        client.set(f"key{number}", number, noreply=True)
    client.incr("key1", 41, noreply=True)
    client.delete("key2", noreply=True)
    client.touch("key3", past(), noreply=True)
    assert client.get_multi(["key0", "key1", "key2", "key3", "key4"]) == {"key0": 0, "key1": 42, "key4": 4}


def test_python_memcached_introspects(client: Any) -> None:
    client.set("key", "value")
    ((_, fields),) = client.get_stats()
    assert int(fields["curr_items"]) >= 1
    ((_, slabs),) = client.get_slab_stats()
    assert int(slabs["active_slabs"]) >= 1
    client.flush_all()
    assert client.get("key") is None
