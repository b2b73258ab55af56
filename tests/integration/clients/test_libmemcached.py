"""libmemcached over a real socket: its own tools, and pylibmc, which is made of it."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest

from tests.integration.clients.tools import BIG_RANDOM, BIG_TEXT, address_of, past, port_of, require_module
from tests.requirements import require_tool
from tests.servers import HOST, Server


def test_memccapable_passes_all_ascii_tests(server: Server) -> None:
    memccapable = require_tool("memccapable")
    argv = [memccapable, "-a", "-h", HOST, "-p", str(port_of(server)), "-t", "10"]
    done = subprocess.run(
        argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60, check=False
    )
    verdicts = [line for line in done.stdout.splitlines() if line.startswith("ascii ")]
    assert len(verdicts) >= 20, done.stdout
    assert [line for line in verdicts if not line.endswith("[pass]")] == [], done.stdout
    assert done.returncode == 0, done.stdout


def test_memcping_takes_the_version_for_one(server: Server) -> None:
    """libmemcached reads three numbers, refuses a major version of 0 and any number above 255."""
    argv = [require_tool("memcping"), f"--servers={address_of(server)}"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def client(server: Server) -> Any:
    pylibmc = require_module("pylibmc")
    behaviors = {"cas": True, "tcp_nodelay": True, "receive_timeout": 5_000_000, "send_timeout": 5_000_000}
    return pylibmc.Client([address_of(server)], behaviors=behaviors)


def test_pylibmc_stores_and_reads(client: Any) -> None:
    assert client.set("key", "value")
    assert client.get("key") == "value"
    assert client.get("absent") is None
    assert client.get("absent", "nothing") == "nothing"
    assert not client.add("key", "other")
    assert client.add("new", 1)
    assert client.replace("key", "other")
    assert not client.replace("absent", "other")
    assert client.append("key", ">")
    assert client.prepend("key", "<")
    assert client.get("key") == "<other>"
    assert client.set_multi({f"key{number}": number for number in range(100)}) == []
    found = client.get_multi([f"key{number}" for number in range(101)])
    assert found == {f"key{number}": number for number in range(100)}
    assert client.delete_multi(["key1", "key2"])
    assert client.delete("key")
    assert not client.delete("key")


def test_pylibmc_counts_touches_and_compares(client: Any) -> None:
    pylibmc = require_module("pylibmc")
    client.set("n", 9)
    assert client.incr("n") == 10
    assert client.decr("n", 4) == 6
    assert client.decr("n", 100) == 0
    with pytest.raises(pylibmc.NotFound):
        client.incr("absent")
    client.set("gone", "x", time=past())
    assert client.get("gone") is None
    client.set("key", "one", time=100)
    assert client.touch("key", 200)
    assert not client.touch("absent", 200)
    value, unique = client.gets("key")
    assert value == "one"
    assert client.cas("key", "two", unique)
    assert not client.cas("key", "three", unique)
    assert client.touch("key", past())
    assert client.get("key") is None


def test_pylibmc_moves_big_values(client: Any) -> None:
    assert client.set("big", BIG_RANDOM)
    assert client.get("big") == BIG_RANDOM
    assert client.set("text", BIG_TEXT, min_compress_len=1000)
    assert client.get("text") == BIG_TEXT
    with pytest.raises(require_module("pylibmc").TooBig):
        client.set("large", b"x" * 2_000_000)
    assert client.get("large") is None


def test_pylibmc_introspects(client: Any) -> None:
    client.set("key", "value")
    ((name, fields),) = client.get_stats()
    assert name.startswith(HOST.encode())
    assert fields["version"].count(b".") == 2
    assert int(fields["curr_items"]) >= 1
    assert client.flush_all()
    assert client.get("key") is None


def test_pylibmc_does_not_wait_with_noreply(server: Server) -> None:
    pylibmc = require_module("pylibmc")
    client = pylibmc.Client([address_of(server)], behaviors={"_noreply": True, "no_block": True})
    for number in range(200):
        client.set(f"key{number}", number)
    client.delete("key7")
    assert client.get_multi(["key6", "key7", "key8"]) == {"key6": 6, "key8": 8}
