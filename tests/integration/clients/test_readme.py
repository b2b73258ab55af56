"""The README's section about several machines: each of its snippets is run as it stands, in its order.

Knows: the form of the section. Ports are changed, so that nothing that runs on this machine is in the way.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.clients.tools import require_module
from tests.requirements import require_tool
from tests.servers import HOST, free_port
from tests.wire import Wire

ROOT = Path(__file__).resolve().parents[3]
SECTION = re.compile(r"^## More than one machine\n(.*?)^## ", re.MULTILINE | re.DOTALL)
SNIPPET = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder to run in; what left its process id there is ended."""
    yield tmp_path
    for path in tmp_path.glob("*.pid"):
        with contextlib.suppress(ProcessLookupError, ValueError):
            os.kill(int(path.read_text()), signal.SIGKILL)


def run(language: str, text: str, folder: Path) -> str:
    """Run one snippet; return what it says on stdout."""
    argv = ["bash", "-euo", "pipefail"] if language == "sh" else [sys.executable]
    script = folder / f"snippet.{language}"
    script.write_text(text)
    done = subprocess.run(
        [*argv, str(script)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, f"{text}\n{done.stdout}{done.stderr}"
    return done.stdout


def test_the_snippets_about_several_machines_work(folder: Path) -> None:
    require_tool("nutcracker")
    require_module("pylibmc")
    section = SECTION.search((ROOT / "README.md").read_text())
    assert section is not None
    ports = {port: str(free_port()) for port in ("11211", "11212", "11213", "22121")}
    shown = []
    for language, text in SNIPPET.findall(section[1]):
        expected = re.findall(r"^print\(.*\)  # (.*)$", text, re.MULTILINE)
        for port, replacement in ports.items():
            text = text.replace(port, replacement)
            expected = [line.replace(port, replacement) for line in expected]
        text = text.replace(".venv/bin/cacheserver", f"{sys.executable} -m cacheserver")
        text = text.replace("nutcracker -d", f"nutcracker -d -s {free_port()}")  # the port of its statistics
        said = run(language, text, folder)
        if language == "python":
            assert said.splitlines() == expected
        shown += expected
    assert len(shown) == 3, "the snippets have gone: does this test still look at the right section?"
    with Wire((HOST, int(ports["22121"]))) as proxy:
        assert proxy.set(b"through", b"nutcracker") == b"STORED"
        assert proxy.get(b"through") == b"nutcracker"
