"""pymemcache over a real socket: it must not notice which server it talks to."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from pymemcache.client.base import Client, PooledClient
from pymemcache.client.hash import HashClient
from pymemcache.exceptions import MemcacheClientError, MemcacheServerError

from tests.integration.clients.tools import port_of
from tests.servers import HOST, Server


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    """A pymemcache client that waits for every reply."""
    client = Client((HOST, port_of(server)), default_noreply=False, timeout=5, connect_timeout=5)
    yield client
    client.close()


def test_pymemcache_stores_and_reads(client: Client) -> None:
    assert client.set("key", b"value")
    assert client.get("key") == b"value"
    assert client.get("absent", default="nothing") == "nothing"
    assert not client.add("key", b"other")
    assert client.add("new", b"1")
    assert client.replace("key", b"other")
    assert not client.replace("absent", b"other")
    assert client.append("key", b">")
    assert client.prepend("key", b"<")
    assert client.get("key") == b"<other>"
    assert client.delete("key")
    assert not client.delete("key")
    assert client.get("key") is None


def test_pymemcache_compares_and_sets(client: Client) -> None:
    client.set("key", b"one")
    value, unique = client.gets("key")
    assert value == b"one"
    assert client.cas("key", b"two", unique)
    assert client.cas("key", b"three", unique) is False
    assert client.cas("absent", b"x", unique) is None
    assert client.get("key") == b"two"
    uniques = client.gets_many(["key", "absent"])
    assert set(uniques) == {"key"}
    assert uniques["key"][1] != unique


def test_pymemcache_counts(client: Client) -> None:
    client.set("n", b"9")
    assert client.incr("n", 1) == 10
    assert client.decr("n", 4) == 6
    assert client.decr("n", 100) == 0
    assert client.incr("absent", 1) is None
    client.set("text", b"x")
    with pytest.raises(MemcacheClientError, match="non-numeric"):
        client.incr("text", 1)


def test_pymemcache_touches_and_flushes(client: Client) -> None:
    client.set("key", b"value", expire=100)
    assert client.touch("key", 200)
    assert not client.touch("absent", 200)
    assert client.raw_command("gat 100 key", end_tokens="END\r\n") == b"VALUE key 0 5\r\nvalue\r\n"
    client.set("gone", b"x", expire=-1)
    assert client.get("gone") is None
    assert client.flush_all()
    assert client.get("key") is None


def test_pymemcache_reads_and_writes_many(client: Client) -> None:
    values = {f"key{i}": b"%d" % i * 50 for i in range(2000)}
    assert client.set_many(values) == []
    assert client.get_many([*values, "absent"]) == values
    assert client.delete_many(list(values)[:10])
    assert len(client.get_many(list(values))) == 1990


def test_pymemcache_moves_large_values(client: Client) -> None:
    for size in (0, 1, 1023, 4096, 65536, 500_000, 1_000_000):
        value = bytes(i * 7 & 255 for i in range(251)) * (size // 251 + 1)
        assert client.set("large", value[:size])
        assert client.get("large") == value[:size]
    with pytest.raises(MemcacheServerError, match="too large"):
        client.set("large", b"x" * 2_000_000)
    assert client.get("large") is None


def test_pymemcache_does_not_wait_by_default(server: Server) -> None:
    client = Client((HOST, port_of(server)), timeout=5)
    for i in range(500):
        client.set(f"key{i}", b"%d" % i)
    client.incr("key1", 41)
    client.delete("key2")
    client.touch("key3", -1)
    client.append("key4", b"!")
    found = client.get_many([f"key{i}" for i in range(6)])
    assert found == {"key0": b"0", "key1": b"42", "key4": b"4!", "key5": b"5"}
    client.close()


def test_pymemcache_introspects(client: Client) -> None:
    assert client.version().count(b".") == 2
    client.set("key", b"value")
    client.get("key")
    client.get("absent")
    stats = client.stats()
    assert stats[b"curr_items"] >= 1
    assert stats[b"get_hits"] >= 1
    assert stats[b"get_misses"] >= 1
    assert stats[b"cmd_set"] >= 1
    assert stats[b"limit_maxbytes"] > 0
    assert client.stats("settings")[b"maxconns"] > 0


def test_pymemcache_pools_and_hashes(server: Server) -> None:
    pool = PooledClient((HOST, port_of(server)), max_pool_size=4, timeout=5)
    assert pool.set("key", b"value", noreply=False)
    assert pool.get("key") == b"value"
    pool.close()
    ring = HashClient([(HOST, port_of(server))], timeout=5)
    assert ring.get_many(["key", "absent"]) == {"key": b"value"}
    ring.close()
