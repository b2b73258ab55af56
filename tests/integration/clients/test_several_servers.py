"""Several servers behind the engines that make a cluster of them: nutcracker, ketama, rendezvous hashing."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pymemcache.client.base import Client
from pymemcache.client.hash import HashClient

from tests.integration.clients.tools import BIG_RANDOM, address_of, past, port_of, require_module
from tests.requirements import require_tool
from tests.servers import HOST, Server, command, free_port, serving
from tests.wire import Wire

PROXY = """\
cache:
  listen: {host}:{port}
  hash: fnv1a_64
  distribution: ketama
  auto_eject_hosts: false
  timeout: 5000
  servers:
   - {first}:1 one
   - {second}:1 two
"""
KEYS = [f"key:{number}" for number in range(200)]


def items_of(server: Server) -> int:
    return int(server.stats()["curr_items"])


@pytest.fixture
def pair() -> Iterator[list[Server]]:
    """Two servers of one's own."""
    with serving() as first, serving() as second:
        yield [first, second]


@pytest.fixture
def proxy(pair: list[Server], tmp_path: Path) -> Iterator[Client]:
    """A pymemcache client of a nutcracker that stands before the two servers."""
    port = free_port()
    config = tmp_path / "nutcracker.yml"
    first, second = map(address_of, pair)
    config.write_text(PROXY.format(host=HOST, port=port, first=first, second=second))
    argv = [
        require_tool("nutcracker"),
        "-c",
        str(config),
        "-o",
        str(tmp_path / "log"),
        "-s",
        str(free_port()),
    ]
    process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    client = Client((HOST, port), default_noreply=False, timeout=10, connect_timeout=10)
    try:
        wait_until_open(port, process)
        yield client
    finally:
        client.close()
        process.kill()
        process.wait(10)


def wait_until_open(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 10
    while True:
        with contextlib.suppress(OSError):
            Wire((HOST, port), timeout=1).close()
            return
        assert process.poll() is None, "nutcracker ended"
        assert time.monotonic() < deadline, "nutcracker does not listen"
        time.sleep(0.02)


def test_nutcracker_passes_on_what_it_knows(proxy: Client, pair: list[Server]) -> None:
    assert proxy.set_many({key: key.encode() for key in KEYS}) == []
    assert [items_of(server) > 40 for server in pair] == [True, True]
    assert proxy.get_many([*KEYS, "absent"]) == {key: key.encode() for key in KEYS}
    assert proxy.set("key", b"value")
    assert proxy.get("key") == b"value"
    assert not proxy.add("key", b"other")
    assert proxy.replace("key", b"other")
    assert proxy.append("key", b">")
    assert proxy.prepend("key", b"<")
    value, unique = proxy.gets("key")
    assert value == b"<other>"
    assert proxy.cas("key", b"two", unique)
    assert proxy.cas("key", b"three", unique) is False
    proxy.set("n", b"9")
    assert proxy.incr("n", 1) == 10
    assert proxy.decr("n", 4) == 6
    assert proxy.incr("absent", 1) is None
    assert proxy.touch("key", 100)
    assert not proxy.touch("absent", 100)
    assert proxy.set("gone", b"x", expire=past())
    assert proxy.get("gone") is None
    assert proxy.set("big", BIG_RANDOM)
    assert proxy.get("big") == BIG_RANDOM
    assert proxy.delete("key")
    assert not proxy.delete("key")


def test_nutcracker_is_spoken_to_without_waiting(proxy: Client) -> None:
    for key in KEYS:
        proxy.set(key, b"1", noreply=True)
    proxy.delete(KEYS[0], noreply=True)
    proxy.incr(KEYS[1], 41, noreply=True)
    # Another key's server may be ahead, the same key's requests stay in order.
    assert proxy.get(KEYS[0]) is None
    assert proxy.get(KEYS[1]) == b"42"
    assert proxy.get(KEYS[2]) == b"1"


Cluster = tuple[Callable[[str, str], Any], Callable[[str], Any]]  # set, get


def ketama(servers: list[Server]) -> Cluster:
    pylibmc = require_module("pylibmc")
    client = pylibmc.Client([address_of(server) for server in servers], behaviors={"ketama": True})

    def get(key: str) -> Any:
        with contextlib.suppress(pylibmc.Error):
            return client.get(key)
        return None

    return client.set, get


def rendezvous(servers: list[Server]) -> Cluster:
    addresses = [(HOST, port_of(server)) for server in servers]
    client = HashClient(addresses, ignore_exc=True, retry_attempts=0, timeout=5, default_noreply=False)

    def get(key: str) -> Any:
        value = client.get(key)
        return None if value is None else value.decode()

    return client.set, get


@pytest.mark.parametrize("make", [ketama, rendezvous])
def test_the_death_of_a_server_leaves_the_keys_of_the_others(
    make: Callable[[list[Server]], Cluster], pair: list[Server]
) -> None:
    put, get = make(pair)
    for key in KEYS:
        put(key, f"value of {key}")
    counts = [items_of(server) for server in pair]
    assert sum(counts) == len(KEYS)
    assert min(counts) > 40
    pair[0].process.kill()
    pair[0].wait(10)
    assert [get(key) for key in KEYS].count(None) == counts[0]


def test_clients_come_back_after_a_restart() -> None:
    port = free_port()
    pylibmc, memcache = require_module("pylibmc"), require_module("memcache")
    name = f"{HOST}:{port}"
    clients: dict[str, Any] = {
        "pymemcache": Client((HOST, port), timeout=5, ignore_exc=True),
        "pylibmc": pylibmc.Client([name], behaviors={"retry_timeout": 1}),
        "python-memcached": memcache.Client([name], dead_retry=0, socket_timeout=5),
    }
    for turn in range(2):
        with Server(command(port), (HOST, port)):
            for which, client in clients.items():
                assert works_soon(client, f"turn {turn}"), f"{which} does not come back"


def works_soon(client: Any, text: str) -> bool:
    """Whether the client stores and reads `text`; its first calls may find the old connection broken."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        with contextlib.suppress(Exception):
            client.set("key", text)
            if client.get("key") in (text, text.encode()):
                return True
        time.sleep(0.02)
    return False
