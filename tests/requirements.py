"""What a test needs from the machine, and what happens when it is missing.

Knows: how to skip. A developer's machine may lack a tool, so there a test is skipped with the reason; where
CACHESERVER_CI=1 says that everything was installed beforehand, the same absence is a failure, so that no
check is lost without anybody noticing.
"""

from __future__ import annotations

import os
import resource
import shutil
from typing import NoReturn

import pytest

IN_CI = os.environ.get("CACHESERVER_CI") == "1"


def missing(reason: str) -> NoReturn:
    """Skip the running test for `reason`, or fail it in CI."""
    if IN_CI:
        pytest.fail(f"not available, and CACHESERVER_CI=1 forbids to skip: {reason}", pytrace=False)
    pytest.skip(reason)


def require_tool(name: str) -> str:
    """Return the absolute path of the program `name`; skip (in CI: fail) when it is not installed."""
    path = shutil.which(name)
    if path is None:
        missing(f"the program '{name}' is not installed")
    return path


def require_open_files(count: int) -> None:
    """Let this process open `count` files; skip (in CI: fail) when the system refuses."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft >= count:
        return
    for ceiling in (hard, max(hard, count)):
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(count, ceiling), ceiling))
        except (ValueError, OSError):
            continue
        if resource.getrlimit(resource.RLIMIT_NOFILE)[0] >= count:
            return
    missing(f"this process may open {hard} files, the test needs {count}")
