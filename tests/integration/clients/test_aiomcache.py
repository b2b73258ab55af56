"""aiomcache over a real socket."""

from __future__ import annotations

import asyncio

import aiomcache

from tests.integration.clients.tools import BIG_RANDOM, past, port_of
from tests.servers import HOST, Server


async def test_aiomcache_does_every_operation(server: Server) -> None:
    client = aiomcache.Client(HOST, port_of(server), pool_size=4)
    try:
        assert await client.set(b"key", b"value", exptime=100)
        assert await client.get(b"key") == b"value"
        assert await client.get(b"absent") is None
        assert not await client.add(b"key", b"x")
        assert await client.replace(b"key", b"other")
        assert await client.append(b"key", b">")
        assert await client.prepend(b"key", b"<")
        value, unique = await client.gets(b"key")
        assert value == b"<other>"
        assert unique is not None
        assert await client.cas(b"key", b"swapped", unique)
        assert not await client.cas(b"key", b"again", unique)
        assert await client.multi_get(b"key", b"absent") == (b"swapped", None)
        assert await client.set(b"n", b"9")
        assert await client.incr(b"n") == 10
        assert await client.decr(b"n", 4) == 6
        assert await client.touch(b"key", 100)
        assert await client.set(b"big", BIG_RANDOM)
        assert await client.get(b"big") == BIG_RANDOM
        assert await client.set(b"gone", b"x", exptime=past())
        assert await client.get(b"gone") is None
        assert await client.delete(b"key")
        assert not await client.delete(b"key")
        assert (await client.version()).count(b".") == 2
        assert (await client.stats())[b"curr_items"] is not None
        await client.flush_all()
        assert await client.get(b"n") is None
    finally:
        await client.close()


async def test_aiomcache_many_tasks_share_the_connections(server: Server) -> None:
    client = aiomcache.Client(HOST, port_of(server), pool_size=8)

    async def work(number: int) -> None:
        for turn in range(20):
            key, value = b"key%d" % number, b"%d.%d" % (number, turn) * 100
            await client.set(key, value)
            assert await client.get(key) == value

    try:
        await asyncio.gather(*(work(number) for number in range(50)))
    finally:
        await client.close()
