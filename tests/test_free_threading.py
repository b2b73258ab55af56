"""Free-threaded Python: every compiled module says that it does without the GIL.

One that does not say so has the interpreter turn the GIL on again for the whole process when it is imported.
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("cacheserver", "protocol", "loadtest")
DECLARATION = "freethreading_compatible=True"

SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.pyx"))

# An import that turns the GIL on is told by a warning, which names the module; here it is an error.
IMPORT = """
import importlib, sys
for name in sys.argv[1:]:
    importlib.import_module(name)
assert not sys._is_gil_enabled()
"""


def module(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def test_every_compiled_module_declares_that_it_needs_no_gil() -> None:
    assert SOURCES
    silent = [
        module(path)
        for path in SOURCES
        if DECLARATION not in path.read_text().partition("\n")[0].removeprefix("# cython: ").split(", ")
    ]
    assert not silent, f"add {DECLARATION} to the first line of: {', '.join(silent)}"


@pytest.mark.skipif(not sysconfig.get_config_var("Py_GIL_DISABLED"), reason="this Python always has its GIL")
def test_importing_the_server_leaves_the_gil_off() -> None:
    names = ["cacheserver.server", *map(module, SOURCES)]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHON_GIL"}
    command = [sys.executable, "-W", "error::RuntimeWarning", "-c", IMPORT, *names]
    done = subprocess.run(
        command, env=environment, stderr=subprocess.PIPE, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
