"""The map of docs/architecture.md as a test: who may know whom, over `import` and `cimport`.

A module belongs to the layer that is its longest prefix below. A layer may use itself and what its row names,
nothing else of the project; `*` is everything.
"""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("cacheserver", "protocol", "loadtest")

# What every part of the engine that executes requests stands on.
EXECUTION = {
    "protocol",
    "cacheserver.store",
    "cacheserver.output",
    "cacheserver.session",
    "cacheserver.observe",
}
LAYERS: dict[str, set[str]] = {
    "protocol": set(),
    "loadtest": set(),
    "cacheserver": set(),  # the package itself: its version
    "cacheserver.store": set(),
    "cacheserver.pressure": set(),
    "cacheserver.pressure.simulate": {"cacheserver.pressure"},  # nothing of a server's needs it
    "cacheserver.output": {"protocol"},
    "cacheserver.prefixes": set(),
    "cacheserver.session": {"protocol", "cacheserver.store", "cacheserver.prefixes"},
    "cacheserver.observe": {"cacheserver.store", "cacheserver.session", "cacheserver.prefixes"},
    "cacheserver.login": {"protocol", "cacheserver.output", "cacheserver.session"},
    "cacheserver.oneline": EXECUTION,
    "cacheserver.foresight": {"protocol", "cacheserver.store", "cacheserver.session"},
    "cacheserver.retrieval": EXECUTION,
    "cacheserver.meta": EXECUTION | {"cacheserver.retrieval"},
    "cacheserver.storage": EXECUTION | {"cacheserver.meta"},
    "cacheserver.engine": EXECUTION
    | {
        "cacheserver.foresight",
        "cacheserver.login",
        "cacheserver.meta",
        "cacheserver.oneline",
        "cacheserver.prefixes",
        "cacheserver.retrieval",
        "cacheserver.storage",
    },
    "cacheserver.eventline": {"protocol", "cacheserver.store"},
    "cacheserver.watchlog": {
        "cacheserver.store",
        "cacheserver.session",
        "cacheserver.engine",
        "cacheserver.eventline",
    },
    "cacheserver.watch": {"cacheserver.desk", "cacheserver.lines"},
    "cacheserver.detail": {"cacheserver.desk", "cacheserver.lines"},
    "cacheserver.net": {"cacheserver.engine"},
    "cacheserver.worker": {"cacheserver.net"},
    "cacheserver.relief": {"cacheserver.worker"},
    "cacheserver.shrinkers": {"cacheserver.store", "cacheserver.pressure"},
    "cacheserver.housekeeping": set(),
    "cacheserver.errors": set(),
    "cacheserver.cpus": set(),
    "cacheserver.ping": set(),
    "cacheserver.values": set(),
    "cacheserver.config": {"cacheserver.cpus", "cacheserver.values"},
    "cacheserver.process": {"cacheserver.errors"},
    "cacheserver.sockets": {"cacheserver.config", "cacheserver.errors", "cacheserver.values"},
    "cacheserver.cluster": {"cacheserver.lines", "cacheserver.values"},
    "cacheserver.tls": {"cacheserver.config", "cacheserver.errors"},
    "cacheserver.buffers": {"cacheserver.net"},
    "cacheserver.handshakes": {"cacheserver.net"},
    "cacheserver.stats": {"cacheserver.lines"},
    "cacheserver.desk": set(),
    "cacheserver.auth": {"cacheserver.errors"},
    "cacheserver.parts": {"cacheserver.desk", "cacheserver.steering", "cacheserver.listings"},
    "cacheserver.lines": set(),
    "cacheserver.walk": {"protocol", "cacheserver.store"},
    "cacheserver.crawler": {"cacheserver.desk"},
    "cacheserver.steering": {"cacheserver.desk", "cacheserver.lines"},
    "cacheserver.listings": {"cacheserver.desk", "cacheserver.lines"},
    "cacheserver.control": {"cacheserver.desk", "cacheserver.parts", "cacheserver.lines"},
    "cacheserver.roster": {
        "cacheserver",
        "cacheserver.parts",
        "cacheserver.lines",
        "cacheserver.stats",
        "cacheserver.desk",
    },
    "cacheserver.reports": {
        "cacheserver",
        "cacheserver.parts",
        "cacheserver.lines",
        "cacheserver.stats",
        "cacheserver.desk",
        "cacheserver.roster",
    },
    "cacheserver.commands": {
        "cacheserver.parts",
        "cacheserver.lines",
        "cacheserver.control",
        "cacheserver.reports",
        "cacheserver.desk",
        "cacheserver.steering",
        "cacheserver.listings",
    },
    "cacheserver.cli": {"cacheserver", "cacheserver.config", "cacheserver.errors", "cacheserver.server"},
    "cacheserver.__main__": {"cacheserver", "cacheserver.cli", "cacheserver.ping"},
    "cacheserver.server": {"*"},
}

CIMPORT = re.compile(r"^\s*(?:from\s+([\w.]+)\s+)?c?import\s+(.+)$")
HIDDEN = re.compile(r"\b(?:importlib|__import__|runpy|pkgutil)\b|^\s*include\s+[\"']", re.MULTILINE)
OPTIONAL = (  # what only some systems, or some users, have
    "import importlib\n",
    'importlib.import_module("psutil")',
    'importlib.import_module("cachetools")',
)
FILES = {"loadtest.scenarios"}  # installed, without sources
SUFFIXES = (".py", ".pyi", ".pyx", ".pxd")


def sources() -> Iterator[tuple[str, Path]]:
    """Yield (dotted name, path) of every source file of the project's packages."""
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*")):
            if path.suffix in SUFFIXES:
                parts = path.relative_to(ROOT).with_suffix("").parts
                yield ".".join(part for part in parts if part != "__init__"), path


def python_imports(text: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute, so that this test sees them"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def cython_imports(text: str) -> Iterator[str]:
    """The imports of Cython source, one statement at a time; their names may follow on later lines."""
    text = re.sub(r"#.*", "", text).replace("\\\n", " ")
    text = re.sub(r"\(([^()]*)\)", lambda match: match.group(1).replace("\n", " "), text)
    for statement in re.split(r"[\n;:]", text):
        match = CIMPORT.match(statement)
        if match is None:
            continue
        assert not (match[1] or "").startswith("."), "imports are absolute, so that this test sees them"
        for name in match[2].split(","):
            found = name.split()
            if found:
                yield f"{match[1]}.{found[0]}" if match[1] else found[0]


def imports(path: Path) -> set[str]:
    """Return the project's names that the file at `path` imports."""
    text = path.read_text()
    found = python_imports(text) if path.suffix in (".py", ".pyi") else cython_imports(text)
    return {name for name in found if name.split(".")[0] in (*PACKAGES, "tests")}


def layer(name: str) -> str:
    """Return the layer of the module or of the name in it; the empty one for what the map does not place."""
    fits = [each for each in LAYERS if name == each or name.startswith(each + ".")]
    return max(fits, key=len, default="")


@pytest.mark.parametrize(("name", "path"), [pytest.param(*each, id=each[0]) for each in sources()])
def test_a_module_knows_only_what_the_map_allows(name: str, path: Path) -> None:
    own = layer(name)
    assert own != "cacheserver" or name == "cacheserver", f"{name} has no place on the map: add it to LAYERS"
    allowed = LAYERS[own] | {own}
    for used in sorted(imports(path)):
        assert layer(used) in allowed or "*" in allowed, f"{name} imports {used}: {own} must not know it"


@pytest.mark.parametrize(("name", "path"), [pytest.param(*each, id=each[0]) for each in sources()])
def test_a_module_imports_in_the_open(name: str, path: Path) -> None:
    text = path.read_text()
    for allowed in OPTIONAL:
        text = text.replace(allowed, "")
    found = HIDDEN.search(text)
    assert found is None, f"{name} has {found[0].strip()!r}, which this test cannot follow"


def test_there_is_no_source_that_the_map_overlooks() -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        installed = set(tomllib.load(file)["tool"]["setuptools"]["packages"])
    assert {name.split(".")[0] for name in installed} == set(PACKAGES)
    homes = {".".join(path.parent.relative_to(ROOT).parts) for _, path in sources()}
    assert homes == installed - FILES
    assert not [path for package in PACKAGES for path in (ROOT / package).rglob("*.pxi")]
    beside = {
        path.name
        for path in ROOT.iterdir()
        if not path.name.startswith(".") and path.name not in ("build", "dist", "wheelhouse")
        if path.suffix in SUFFIXES or (path.is_dir() and not (path / "pyvenv.cfg").exists() and holds(path))
    }
    assert beside == {*PACKAGES, "tests", "docs"}  # in docs: sample programs


def holds(folder: Path) -> bool:
    """Return whether there is a source file anywhere below `folder`."""
    return any(path.suffix in SUFFIXES for path in folder.rglob("*"))


def test_protocol_store_and_pressure_do_not_know_each_other() -> None:
    apart = {"protocol", "cacheserver.store", "cacheserver.pressure"}
    for one in apart:
        assert not LAYERS[one] & (apart - {one})


def test_the_load_tests_know_nothing_of_what_they_judge() -> None:
    used = {layer(name) for own, path in sources() if layer(own) == "loadtest" for name in imports(path)}
    assert used == {"loadtest"} == {"loadtest", *LAYERS["loadtest"]}


@pytest.mark.parametrize(
    ("seam", "only"),
    [
        (
            {"protocol", "cacheserver.store"},
            {
                "cacheserver.engine",
                "cacheserver.eventline",
                "cacheserver.foresight",
                "cacheserver.meta",
                "cacheserver.oneline",
                "cacheserver.retrieval",
                "cacheserver.session",
                "cacheserver.storage",
                "cacheserver.server",
                "cacheserver.walk",
            },
        ),
        ({"cacheserver.pressure", "cacheserver.store"}, {"cacheserver.shrinkers", "cacheserver.server"}),
    ],
    ids=["protocol and store", "store and pressure"],
)
def test_one_module_knows_both_sides_of_a_seam(seam: set[str], only: set[str]) -> None:
    knowing: dict[str, set[str]] = {}
    for name, path in sources():
        knowing.setdefault(name, set()).update(layer(used) for used in imports(path))
    both = {name for name, layers in knowing.items() if seam <= layers}
    assert both <= only
    assert min(only) in both, "the seam is gone: does this test still look at the right modules?"


def test_the_scan_sees_imports_of_every_form() -> None:
    text = (
        "from a.b cimport (\n    c,  # why\n    d as e,\n)\ncimport f.g as h\nfrom i import j\nimport k, l\n"
        "cdef int x; cimport m.n; x = 1\nif x: import o\nfrom p \\\n    cimport q, \\\n    r\n"
    )
    seen = {"a.b.c", "a.b.d", "f.g", "i.j", "k", "l", "m.n", "o", "p.q", "p.r"}
    assert set(cython_imports(text)) == seen
    for hidden in ("importlib.import_module(n)", "__import__('a')", "x = 1\n  include 'a.pxi'\n"):
        assert HIDDEN.search(hidden)
    assert set(python_imports("def f():\n    from a import b\nimport c.d\n")) == {"a.b", "c.d"}
