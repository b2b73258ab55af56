"""What the tests of the clients share: finding a client, running one written in another language.

Knows: where clients are installed. Python's come with the extra `clients`; the environment variables
CACHESERVER_TEST_NODE_MODULES and CACHESERVER_TEST_GEMS name folders for those of Node.js and Ruby. What is
missing skips its tests by name, in CI it fails them.
"""

from __future__ import annotations

import importlib
import os
import random
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.requirements import missing, require_tool
from tests.servers import Server

HERE = Path(__file__).resolve().parent
SCRIPT_TIMEOUT = 30.0  # seconds

BIG_RANDOM = random.Random(11).randbytes(100_000)  # no compressor makes it smaller
BIG_TEXT = "eighty percent of this is the same as the line before\n" * 2000


def past() -> int:
    """Return an absolute expiry time that has gone by: an item stored with it is never seen."""
    return int(time.time()) - 1000


def port_of(server: Server) -> int:
    assert isinstance(server.address, tuple)
    return server.address[1]


def address_of(server: Server) -> str:
    """Return `host:port`, as most clients want it."""
    assert isinstance(server.address, tuple)
    return f"{server.address[0]}:{server.address[1]}"


def require_module(name: str) -> Any:
    """Return the Python module `name`; skip (in CI: fail) where it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        missing(f"{name}: {error}; pip install -e '.[clients]' brings the clients")


def run_script(
    program: str, script: str, *arguments: str, environment: Mapping[str, str] | None = None
) -> list[str]:
    """Run one of the scripts beside this file; return what it says it has done, one word a line.

    A script checks for itself, ends with status 0 only if all was right, and names each step it has taken.
    """
    argv: Sequence[str] = [require_tool(program), str(HERE / script), *arguments]
    done = subprocess.run(
        argv,
        capture_output=True,
        text=True,
        timeout=SCRIPT_TIMEOUT,
        stdin=subprocess.DEVNULL,
        env={**os.environ, **(environment or {})},
        check=False,
    )
    assert done.returncode == 0, f"{script}: {done.stdout}{done.stderr}"
    return done.stdout.split()
