"""The server as it is, but with a store that holds a given number of bytes at most.

Run as `python -m tests.capped_server <bytes> <flags of the server>`, to compare with servers that have a
size. Knows: that `cacheserver.server` makes its store by calling its name `Store`, whose capacity is meant
for this only.
"""

from __future__ import annotations

import functools
import runpy
import sys

from tests.servers import HOST


def capped_command(port: int, capacity: int, *flags: str) -> list[str]:
    """Return the command line of a server on 127.0.0.1:`port` whose store has `capacity` bytes."""
    own = [sys.executable, "-m", "tests.capped_server", str(capacity)]
    return [*own, "-l", HOST, "-p", str(port), *flags]


def main() -> None:
    """Start the server's own main program with the bound in the store's constructor."""
    from cacheserver import server
    from cacheserver.store.store import Store

    capacity = int(sys.argv.pop(1))
    vars(server)["Store"] = functools.partial(Store, capacity=capacity)
    runpy.run_module("cacheserver", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
