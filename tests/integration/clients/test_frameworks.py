"""Django's and dogpile.cache's memcached backends over a real socket; not those for the binary protocol."""

from __future__ import annotations

from typing import Any

import pytest

from tests.integration.clients.tools import BIG_RANDOM, BIG_TEXT, address_of, require_module
from tests.servers import Server


@pytest.fixture(params=["PyMemcacheCache", "PyLibMCCache"])
def cache(request: pytest.FixtureRequest, server: Server) -> Any:
    """A Django cache of the named backend, keys prefixed."""
    require_module("pylibmc" if request.param == "PyLibMCCache" else "pymemcache")
    require_module("django")
    from django.conf import settings

    if not settings.configured:
        settings.configure()
    backends = require_module("django.core.cache.backends.memcached")
    made = getattr(backends, request.param)(address_of(server), {"KEY_PREFIX": "site", "TIMEOUT": 100})
    yield made
    made.close()


def test_django_does_every_operation(cache: Any) -> None:
    cache.set("key", {"a": [1, 2]})
    assert cache.get("key") == {"a": [1, 2]}
    assert cache.get("absent", "nothing") == "nothing"
    assert not cache.add("key", 1)
    assert cache.add("new", 1)
    assert cache.incr("new", 41) == 42
    assert cache.decr("new") == 41
    with pytest.raises(ValueError, match="absent"):
        cache.incr("absent")
    assert cache.set_many({f"key{number}": number for number in range(100)}) == []
    found = cache.get_many([f"key{number}" for number in range(101)])
    assert found == {f"key{number}": number for number in range(100)}
    cache.delete_many(["key1", "key2"])
    assert cache.get_many(["key1", "key2", "key3"]) == {"key3": 3}
    assert cache.get_or_set("made", lambda: "once") == "once"
    assert cache.touch("key", 200)
    assert not cache.touch("absent", 200)
    assert "key" in cache
    if type(cache).__name__ != "PyLibMCCache":  # libmemcached makes 2^32-1 of it, refused since 1.6.45
        cache.set("gone", 1, timeout=0)
        assert cache.get("gone") is None
    cache.set("forever", 1, timeout=None)
    assert cache.get("forever") == 1
    for big in (BIG_RANDOM, BIG_TEXT):
        cache.set("big", big)
        assert cache.get("big") == big
    assert cache.delete("key")
    assert not cache.delete("key")
    cache.clear()
    assert cache.get("forever") is None


@pytest.mark.parametrize(
    ("backend", "module"), [("pymemcache", "pymemcache"), ("pylibmc", "pylibmc"), ("memcached", "memcache")]
)
def test_dogpile_caches_and_locks(backend: str, module: str, server: Server) -> None:
    require_module(module)
    dogpile = require_module("dogpile.cache")
    region = dogpile.make_region().configure(
        f"dogpile.cache.{backend}",
        expiration_time=100,
        arguments={"url": [address_of(server)], "distributed_lock": True, "memcached_expire_time": 200},
    )
    calls = []

    @region.cache_on_arguments()  # type: ignore[untyped-decorator, unused-ignore]
    def slow(number: int) -> int:
        calls.append(number)
        return number * number

    assert [slow(7), slow(7), slow(8)] == [49, 49, 64]
    assert calls == [7, 8]
    assert region.get("absent") is dogpile.api.NO_VALUE
    region.set("key", {"a": 1})
    assert region.get("key") == {"a": 1}
    region.set_multi({"one": 1, "two": 2})
    assert region.get_multi(["one", "two", "absent"]) == [1, 2, dogpile.api.NO_VALUE]
    region.set("big", BIG_TEXT)
    assert region.get("big") == BIG_TEXT
    region.delete("key")
    region.delete_multi(["one"])
    assert region.get_multi(["key", "one", "two"]) == [dogpile.api.NO_VALUE, dogpile.api.NO_VALUE, 2]
    mutex = region.backend.get_mutex("lock")
    assert mutex.acquire(False)
    assert not region.backend.get_mutex("lock").acquire(False)
    mutex.release()
