"""emcache over a real socket, and its discovery of the servers by `config get cluster`."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.integration.clients.tools import BIG_RANDOM, past, port_of, require_module
from tests.servers import HOST, REPLACEMENT, Server, command, free_port
from tests.wire import Wire


@contextlib.asynccontextmanager
async def connected(server: Server, **options: Any) -> AsyncIterator[Any]:
    emcache = require_module("emcache")
    address = emcache.MemcachedHostAddress(HOST, port_of(server))
    client = await emcache.create_client([address], timeout=5.0, **options)
    try:
        yield client
    finally:
        await client.close()


async def test_emcache_does_every_operation(server: Server) -> None:
    emcache = require_module("emcache")
    async with connected(server) as client:
        await client.set(b"key", b"value", flags=7, exptime=100)
        item = await client.get(b"key", return_flags=True)
        assert (item.value, item.flags) == (b"value", 7)
        assert await client.get(b"absent") is None
        with pytest.raises(emcache.NotStoredStorageCommandError):
            await client.add(b"key", b"other")
        await client.add(b"new", b"1")
        await client.replace(b"key", b"other")
        with pytest.raises(emcache.NotStoredStorageCommandError):
            await client.replace(b"absent", b"other")
        await client.append(b"key", b">")
        await client.prepend(b"key", b"<")
        item = await client.gets(b"key")
        assert item.value == b"<other>"
        await client.cas(b"key", b"two", item.cas)
        with pytest.raises(emcache.StorageCommandError):
            await client.cas(b"key", b"three", item.cas)
        await client.set(b"n", b"9")
        assert await client.increment(b"n", 1) == 10
        assert await client.decrement(b"n", 4) == 6
        with pytest.raises(emcache.NotFoundCommandError):
            await client.increment(b"absent", 1)
        await client.touch(b"key", 100)
        assert (await client.gat(100, b"key")).value == b"two"
        found = await client.get_many([b"key", b"n", b"absent"])
        assert {key: item.value for key, item in found.items()} == {
            b"key": b"two",
            b"n": b"6 ",
        }  # the length stays
        await client.set(b"gone", b"x", exptime=past())
        assert await client.get(b"gone") is None
        await client.set(b"big", BIG_RANDOM)
        assert (await client.get(b"big")).value == BIG_RANDOM
        await client.delete(b"key")
        with pytest.raises(emcache.NotFoundCommandError):
            await client.delete(b"key")


async def test_emcache_does_not_wait_with_noreply(server: Server) -> None:
    async with connected(server, max_connections=1) as client:
        for number in range(100):
            await client.set(b"key%d" % number, b"%d" % number, noreply=True)
        await client.increment(b"key1", 41, noreply=True)
        await client.delete(b"key2", noreply=True)
        found = await client.get_many([b"key1", b"key2", b"key99"])
        assert {key: item.value for key, item in found.items()} == {b"key1": b"42", b"key99": b"99"}


async def test_emcache_introspects(server: Server) -> None:
    async with connected(server) as client:
        (address,) = client.cluster_managment().nodes()
        assert (await client.version(address)).count(".") == 2
        assert int((await client.stats(address))["pid"]) == server.pid
        await client.set(b"key", b"value")
        await client.flush_all(address)
        assert await client.get(b"key") is None


@pytest.mark.skipif("memcached" in REPLACEMENT, reason="memcached knows no cluster")
async def test_emcache_discovers_the_servers_of_the_cluster() -> None:
    require_module("emcache")
    ports = [free_port(), free_port()]
    named = ",".join(f"{HOST}:{port}" for port in ports)
    with contextlib.ExitStack() as stack:
        told, _ = [
            stack.enter_context(Server(command(port, "--cluster", named), (HOST, port))) for port in ports
        ]
        async with connected(told, autodiscovery=True) as client:
            nodes = client.cluster_managment().nodes()
            assert {(node.address, node.port) for node in nodes} == {(HOST, port) for port in ports}
            for number in range(50):
                await client.set(b"key%d" % number, b"%d" % number)
        counts = []
        for port in ports:
            with Wire((HOST, port)) as wire:
                counts.append(int(wire.stats()["curr_items"]))
        assert sum(counts) == 50
        assert min(counts) > 0
