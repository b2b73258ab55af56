"""Which files a run leaves, and how they are written: each whole or not at all, each for itself.

Knows: the forms of a report, files. Must not know: how a run is made. A disk that is full, a folder that may
not be written or a package that is missing costs that file; what was measured is not lost, it stands in the
others.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from loadtest import outcome as form
from loadtest import report_hdr, report_html, report_plot
from loadtest.extras import MissingExtra
from loadtest.outcome import Outcome, OutcomeError
from loadtest.slo import Verdict

STDOUT = "-"
NONE = "none"
WONDER = 1.0  # seconds after which a person who waits for a file is told which


class Wanted(NamedTuple):
    """Paths of the files that are wanted; "" where one is not."""

    json: str = ""
    html: str = ""
    png: str = ""
    hdr: str = ""  # of which NAME.hlog and, of an open loop, NAME.service.hlog are made

    def check(self) -> None:
        """Say before a run, not after it, what cannot be written. MissingExtra, OutcomeError."""
        for path in (self.json, self.html, self.png, self.hdr):
            if path and path not in (STDOUT, NONE) and (problem := obstacle(Path(path))):
                raise OutcomeError(f"{path} cannot be written: {problem}")
        if self.html or self.png:
            report_plot.check()
        if self.hdr:
            report_hdr.check()


def in_folder(folder: str, name: str) -> Wanted:
    """All files of a run called `name`, in one folder."""
    base = str(Path(folder) / name)
    return Wanted(f"{base}.json", f"{base}.html", f"{base}.png", base)


def write(wanted: Wanted, outcome: Outcome, verdicts: Sequence[Verdict] = ()) -> list[str]:
    """Write what is wanted; what went wrong, a line each."""
    problems = []
    if wanted.json and wanted.json != NONE:
        with _telling(wanted.json):
            data = form.text_of(outcome, list(verdicts)).encode()
        problems = _keep(wanted.json, data)
    jobs: list[tuple[str, Callable[[], bytes]]] = []
    if wanted.hdr:
        base = wanted.hdr.removesuffix(".hlog")
        jobs.append((f"{base}.hlog", lambda: report_hdr.text_of(outcome).encode()))
        if outcome.open_loop:
            jobs.append((f"{base}.service.hlog", lambda: report_hdr.text_of(outcome, service=True).encode()))
    return problems + save([*jobs, *pictures(wanted, [outcome], verdicts)])


def _keep(path: str, data: bytes) -> list[str]:
    """Write the results, from which all else can be made; where that fails, to a temporary folder."""
    problems = save([(path, lambda: data)])
    if problems:
        with contextlib.suppress(OSError):
            name = "results.json" if path == STDOUT else Path(path).name
            refuge = Path(tempfile.mkdtemp(prefix="loadtest-")) / name
            put(refuge, data)
            problems.append(f"the results are kept in {refuge}")
    return problems


def obstacle(path: Path) -> str:
    """Why no file can be written at `path`, as far as it shows; "" where nothing speaks against it."""
    if path.is_dir():
        return "it is a folder"
    if path.exists():
        return "" if os.access(path, os.W_OK) else "it may not be written"
    folder = next(each for each in path.absolute().parents if each.exists())
    if not folder.is_dir():
        return f"{folder} is no folder"
    return "" if os.access(folder, os.W_OK) else f"{folder} may not be written in"


def pictures(
    wanted: Wanted, outcomes: Sequence[Outcome], verdicts: Sequence[Verdict] = ()
) -> list[tuple[str, Callable[[], bytes]]]:
    """(path, content) of the page and the picture, where they are wanted."""
    jobs: list[tuple[str, Callable[[], bytes]]] = []
    if wanted.png:
        jobs.append((wanted.png, lambda: report_plot.png(outcomes)))
    if wanted.html:
        jobs.append((wanted.html, lambda: report_html.page(outcomes, verdicts).encode()))
    return jobs


def save(jobs: Sequence[tuple[str, Callable[[], bytes]]]) -> list[str]:
    """Write each content to its path, "-" being stdout; what went wrong, a line each."""
    problems = []
    for path, content in jobs:
        try:
            with _telling(path):
                data = content()
            if path == STDOUT:
                sys.stdout.write(data.decode())
                sys.stdout.flush()
            else:
                put(Path(path), data)
        except MissingExtra as error:
            problems.append(f"{path} is not written: {error}")
        except OSError as error:
            problems.append(f"{path} is not written: {error.strerror or error}")
    return problems


@contextlib.contextmanager
def _telling(path: str) -> Iterator[None]:
    """Say on stderr what is in the making, where that takes long: an hour's run is 100 MB of results."""
    words = f"loadtest: making {'the results' if path == STDOUT else path} ..."
    timer = threading.Timer(WONDER, print, (words,), {"file": sys.stderr, "flush": True})
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def put(path: Path, data: bytes) -> None:
    """Write a file whole: what was at `path` stays until all of the new one is on the disk. OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and not path.is_file():  # /dev/full, a pipe: no file to be replaced
        path.write_bytes(data)
        return
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            part.unlink()
        raise
