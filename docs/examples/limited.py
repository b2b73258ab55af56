"""What the sample programs have in common: a memory cgroup of their own to run in, and their flags.

A sample starts itself again inside a new group, so that the process which stays outside can remove the group
and report what the kernel did, whatever became of the one inside. Knows: the files of the memory controllers
of cgroup v1 and v2. Sizes are bytes.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from cacheserver.pressure.mounts import groups

MIB = 1 << 20
UNITS = {"K": 10, "M": 20, "G": 30}
LIMITS = {1: ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes"), 2: ("memory.max", "memory.swap.max")}
REMOVE_SECONDS = 5.0  # a group is busy for a moment after its last process has ended


def size(text: str) -> int:
    """Bytes in `text`: a number with K, M or G behind it, or none."""
    digits, shift = (text[:-1], UNITS[text[-1].upper()]) if text[-1:].upper() in UNITS else (text, 0)
    if not digits.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no size: write it like 512M, or 0 for none")
    return int(digits) << shift


def positive(text: str) -> float:
    """A number above 0."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < 1e9:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return number


def parser(description: str, *, limit: str, rate: float) -> argparse.ArgumentParser:
    """The flags that every sample has, with its own defaults."""
    made = argparse.ArgumentParser(description=description)
    made.add_argument(
        "--limit", type=size, default=size(limit), metavar="SIZE",
        help=f"run in a new memory cgroup of this size; 0: in the group it is started in (default {limit})",
    )  # fmt: skip
    made.add_argument(
        "--seconds", type=positive, default=30.0, metavar="N", help="end after this time (default 30)"
    )
    made.add_argument(
        "--rate", type=positive, default=rate, metavar="N",
        help=f"allocate N MiB a second at most (default {rate:g})",
    )  # fmt: skip
    return made


def inside(limit: int) -> int:
    """Run this program with the same flags in a new group of `limit` bytes; its exit status, 1 where the
    kernel killed it.
    """
    group = _make(limit)
    try:
        # The shell enters the group and becomes the program: all it ever allocates is charged there.
        enter = ["/bin/sh", "-c", 'echo $$ > "$0" && exec "$@"', str(group / "cgroup.procs")]
        child = subprocess.Popen([*enter, sys.executable, *sys.argv, "--limit", "0"])
        signal.signal(signal.SIGINT, lambda *_: None)  # a terminal sends it to the child, too
        signal.signal(signal.SIGTERM, lambda *_: child.terminate())
        status = child.wait()
        kills = _kills(group)
    finally:
        _remove(group)
    print(f"in a cgroup of {limit // MIB} MiB: exit status {status}, OOM kills {kills}", flush=True)
    return 1 if status < 0 or kills else status


def end_on_signals() -> None:
    """Make SIGTERM end the program as Ctrl-C does: by KeyboardInterrupt in the main thread."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.default_int_handler)


def _make(limit: int) -> Path:
    """A new group as near to this process's own as the system allows; SystemExit with what to do instead."""
    why = "no memory controller is mounted here"
    for version, parent in _parents():
        group = parent / f"memory-sample-{os.getpid()}"
        try:
            group.mkdir()
        except OSError as error:
            why = f"{parent}: {error.strerror}"
            continue
        try:
            _set_limit(group, version, limit)
        except OSError as error:
            why = f"{parent}: {error.strerror}"
            _remove(group)
            continue
        return group
    path, mib = Path(sys.argv[0]).absolute(), limit // MIB
    scope = f"systemd-run --scope -p MemoryMax={mib}M -p MemorySwapMax=0 {sys.executable} {path}"
    container = f"docker run -m {mib}m --memory-swap {mib}m -v {path.parent}:/examples cacheserver"
    sys.exit(
        f"{path.name}: cannot make a memory cgroup ({why}): become root, or try `{scope} --limit 0`, "
        f"or `{container} python3 /examples/{path.name} --limit 0`"
    )


def _parents() -> Iterator[tuple[int, Path]]:
    """(version, directory) of every group that a limited child might be made in: the nearest first."""
    own = groups(Path("/proc/self/mountinfo").read_text(), Path("/proc/self/cgroup").read_text())
    for group in own:
        at = Path(group.directory)
        if group.version == 2:
            # Of version 2 only the children of a group that passes the controller on have it, and the kernel
            # refuses that (EBUSY) where processes live beside them.
            with contextlib.suppress(OSError):
                (at / "cgroup.subtree_control").write_text("+memory")
            with contextlib.suppress(OSError):
                if "memory" in (at / "cgroup.subtree_control").read_text().split():
                    yield 2, at
        else:
            yield 1, at


def _set_limit(group: Path, version: int, limit: int) -> None:
    """Limit memory and, where the kernel counts it, swap: else what is in excess would go there first."""
    memory, swap = LIMITS[version]
    (group / memory).write_text(str(limit))
    with contextlib.suppress(OSError):
        (group / swap).write_text(str(limit if version == 1 else 0))  # v1 counts memory and swap together


def _kills(group: Path) -> int:
    """Processes of the group that the kernel has killed for want of memory."""
    for name in ("memory.oom_control", "memory.events"):
        with contextlib.suppress(OSError):
            fields = dict(line.split() for line in (group / name).read_text().splitlines())
            return int(fields.get("oom_kill", 0))
    return 0


def _remove(group: Path) -> None:
    end = time.monotonic() + REMOVE_SECONDS
    while True:
        try:
            return group.rmdir()
        except OSError as error:
            if time.monotonic() >= end:
                print(f"{group}: {error.strerror}; remove it with rmdir", file=sys.stderr)
                return None
            time.sleep(0.05)
