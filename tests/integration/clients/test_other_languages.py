"""Clients in other languages over a real socket: Node.js, Perl, Ruby. The work is in the scripts."""

from __future__ import annotations

import os
import subprocess

import pytest

from tests.integration.clients.tools import address_of, run_script
from tests.requirements import missing, require_tool
from tests.servers import REPLACEMENT, Server, serving

NODE_MODULES = "CACHESERVER_TEST_NODE_MODULES"
GEMS = "CACHESERVER_TEST_GEMS"
NO_GEMS = "CACHESERVER_TEST_NO_GEMS"  # why dalli could not be installed
NODE_STEPS = ["set", "add", "cas", "count", "multi", "expire", "big", "stats"]


@pytest.fixture
def node_modules() -> str:
    folder = os.environ.get(NODE_MODULES, "")
    if not os.path.isdir(os.path.join(folder, "memcached")):
        missing(
            f"no npm package memcached: npm install --prefix DIR memcached, {NODE_MODULES}=DIR/node_modules"
        )
    return folder


def test_the_npm_package_memcached(server: Server, node_modules: str) -> None:
    steps = run_script("node", "memcached.js", address_of(server), environment={"NODE_PATH": node_modules})
    assert steps == [*NODE_STEPS, "flush"]


@pytest.mark.skipif("memcached" in REPLACEMENT, reason="memcached knows no cluster")
def test_the_npm_package_memcached_reads_the_list_of_a_cluster(node_modules: str) -> None:
    nodes = "10.0.0.1|10.0.0.1|11211 10.0.0.2|10.0.0.2|11212"
    with serving("--cluster", "10.0.0.1:11211,10.0.0.2:11212") as told:
        steps = run_script(
            "node", "memcached.js", address_of(told), nodes, environment={"NODE_PATH": node_modules}
        )
    assert steps == [*NODE_STEPS, "cluster", "flush"]


@pytest.mark.parametrize(
    ("module", "steps"),
    [
        ("Cache::Memcached", ["set", "add", "count", "multi", "expire", "big", "flush"]),
        ("Cache::Memcached::Fast", ["set", "add", "count", "multi", "cas", "expire", "big", "flush"]),
    ],
)
def test_perl(module: str, steps: list[str], server: Server) -> None:
    probe = subprocess.run([require_tool("perl"), f"-M{module}", "-e", "1"], capture_output=True, check=False)
    if probe.returncode != 0:
        missing(f"the Perl module {module} is not installed")
    assert run_script("perl", "cache_memcached.pl", module, address_of(server)) == steps


def test_rubys_dalli(server: Server) -> None:
    """Debian 12 has dalli 3.0, which speaks the binary protocol only: a newer one is a gem."""
    if os.environ.get(NO_GEMS):
        pytest.skip(f"dalli cannot be installed: {os.environ[NO_GEMS]}")
    environment = {"GEM_PATH": os.environ[GEMS]} if GEMS in os.environ else {}
    probe = subprocess.run(
        [require_tool("ruby"), "-e", "require 'dalli'; require 'dalli/protocol/meta'"],
        capture_output=True,
        env={**os.environ, **environment},
        check=False,
    )
    if probe.returncode != 0:
        missing(f"no dalli with the meta protocol: gem install --install-dir DIR dalli, {GEMS}=DIR")
    steps = run_script("ruby", "dalli.rb", address_of(server), environment=environment)
    assert steps == ["set", "add", "count", "multi", "cas", "key", "expire", "big", "flush"]
