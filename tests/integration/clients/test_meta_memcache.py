"""meta-memcache over a real socket: a client that speaks the meta commands and nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from tests.integration.clients.tools import BIG_RANDOM, BIG_TEXT, past, port_of, require_module
from tests.servers import HOST, Server


@pytest.fixture
def meta() -> Any:
    return require_module("meta_memcache")


@pytest.fixture
def client(meta: Any, server: Server) -> Any:
    return meta.CacheClient.cache_client_from_servers(
        servers=[meta.ServerAddress(host=HOST, port=port_of(server))],
        connection_pool_factory_fn=meta.connection_pool_factory_builder(
            connection_timeout=5, recv_timeout=5, mark_down_period_s=0
        ),
    )


def test_meta_memcache_stores_and_reads(meta: Any, client: Any) -> None:
    assert client.set("key", {"a": 1}, ttl=100)
    assert client.get("key") == {"a": 1}
    assert client.get("absent") is None
    assert not client.set("key", 1, ttl=100, set_mode=meta.SetMode.ADD)
    assert not client.refill("key", 1, ttl=100)
    assert client.refill("new", 1, ttl=100)
    assert client.set("new", b"1", ttl=100, set_mode=meta.SetMode.REPLACE)
    assert not client.set("absent", 1, ttl=100, set_mode=meta.SetMode.REPLACE)
    assert client.set("new", b"2", ttl=100, set_mode=meta.SetMode.APPEND)
    assert client.set("new", b"0", ttl=100, set_mode=meta.SetMode.PREPEND)
    assert client.get("new") == b"012"
    for number in range(100):
        assert client.set(f"key{number}", number, ttl=100)
    keys = [meta.Key(f"key{number}") for number in range(101)]
    found = client.multi_get(keys)
    assert {key.key: value for key, value in found.items() if value is not None} == {
        f"key{number}": number for number in range(100)
    }
    assert client.delete("key")
    assert not client.delete("key")
    assert client.invalidate("key")


def test_meta_memcache_counts_touches_and_compares(client: Any) -> None:
    assert client.delta_initialize_and_get("n", delta=1, initial_value=9, initial_ttl=100) == 9
    assert client.delta_and_get("n", delta=1) == 10
    assert client.delta_and_get("n", delta=-4) == 6
    assert client.delta_and_get("absent", delta=1) is None
    assert client.set("gone", 1, ttl=past())
    assert client.get("gone") is None
    assert client.set("key", "one", ttl=100)
    assert client.touch("key", ttl=200)
    assert not client.touch("absent", ttl=200)
    value, unique = client.get_cas("key")
    assert value == "one"
    assert client.set("key", "two", ttl=100, cas_token=unique)
    assert not client.set("key", "three", ttl=100, cas_token=unique)
    assert client.get("key") == "two"
    assert client.get("key", touch_ttl=past()) == "two"
    assert client.get("key") is None


def test_meta_memcache_leases_and_recaches(meta: Any, client: Any) -> None:
    """The first reader of a missing, stale or nearly expired item is told to make it; the others get on."""
    lease = meta.LeasePolicy(ttl=30, miss_retries=2, miss_retry_wait=0.0)
    assert client.get_or_lease("made", lease_policy=lease) is None
    waited: list[float] = []
    assert client.get_or_lease("made", lease_policy=lease, lease_wait_fn=waited.append) is None
    assert waited, "somebody else has the lease already"
    assert client.set("made", "once", ttl=100)
    assert client.get_or_lease("made", lease_policy=lease) == "once"
    stale = meta.StalePolicy(mark_stale_on_deletion_ttl=30)
    assert client.delete("made", stale_policy=stale)
    recache = meta.RecachePolicy(ttl=10)
    assert client.get("made", recache_policy=recache) is None  # wins: it is to make the item anew
    assert client.get("made", recache_policy=recache) == "once"  # the others have the stale one meanwhile


def test_meta_memcache_returns_metadata(meta: Any, client: Any) -> None:
    client.set("key", b"12345", ttl=100)
    asked = meta.RequestFlags(
        return_client_flag=True,
        return_value=True,
        return_ttl=True,
        return_size=True,
        return_fetched=True,
        return_cas_token=True,
    )
    first, second = (client.meta_get(meta.Key("key"), flags=asked) for _ in range(2))
    assert first.value == b"12345"
    assert first.flags.size == 5
    assert 98 <= first.flags.ttl <= 100
    assert [each.flags.fetched for each in (first, second)] == [False, True]
    assert first.flags.cas_token == second.flags.cas_token


def test_meta_memcache_takes_any_key_and_big_values(meta: Any, client: Any) -> None:
    for key in (meta.Key("ключ ☕"), meta.Key("x" * 500)):
        assert client.set(key, "value", ttl=100)
        assert client.get(key) == "value"
        assert client.multi_get([key]) == {key: "value"}
        assert client.delete(key)
    for big in (BIG_RANDOM, BIG_TEXT):
        assert client.set("big", big, ttl=100)
        assert client.get("big") == big


def test_meta_memcache_does_not_wait_with_no_reply(client: Any) -> None:
    for number in range(100):
        assert client.set(f"key{number}", number, ttl=100, no_reply=True)
    client.delta("n", delta=1, no_reply=True)
    client.delete("key2", no_reply=True)
    assert [client.get(f"key{number}") for number in (1, 2, 99)] == [1, None, 99]
