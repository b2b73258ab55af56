"""The server in a container with a memory limit: hogs beside it, and the limit changed live.

From the repository root, where `docker` reaches an engine that can build the image (about five minutes, most
of them the build; `--image` takes one that is there):

    python -m tests.bench.pressure_docker [--image NAME] [--runs 10]

A container of 256 MiB without swap; a writer fills the server through its published port and goes on writing.
hogs: processes in the container that take 32 to 128 MiB at 0.1 to 2.4 GiB/s, drawn evenly by seed, and hold
them for a second.
up: `docker update -m 384m`; the server grows into it.
down: `docker update -m` to 192 MiB in steps of half the server's free reserve; a step that the engine refuses
is tried again.

*followed* is the time from the command's end until `stats` names the limit and the reserve is free (down), or
the server is full again (up). The judges are the kernel's counts in the container, the engine's OOMKilled,
and the hogs' exit. Ends with 1 when anything was killed. The container, and an image that was built for this,
are removed at the end.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from tests import hog
from tests.bench.pressure_scene import (
    GIB,
    MIB,
    TOLD,
    Failed,
    Hog,
    Writer,
    hog_words,
    is_full,
    machine,
    run,
    until,
)
from tests.servers import HOST, free_port
from tests.wire import Wire

ROOT = Path(__file__).resolve().parents[2]
FIRST, RAISED, LOWERED = 256, 384, 192  # MiB
VALUE = 4096
SIZES, RATES = (32, 128), (0.1, 2.4)  # MiB, GiB/s
HOLD = 1.0  # seconds
PATIENCE = 60.0  # seconds
STEP_SHARE = 0.5  # of the reserve
COUNTS = "/sys/fs/cgroup/memory/memory.oom_control", "/sys/fs/cgroup/memory.events"  # v1, v2


def docker(*words: str, seconds: float = PATIENCE) -> str:
    """Run the docker client; returns what it printed. Failed, with its own words, when it fails."""
    try:
        done = subprocess.run(
            ["docker", *words],
            capture_output=True,
            text=True,
            timeout=seconds,
            stdin=subprocess.DEVNULL,
            check=False,
        )
    except FileNotFoundError:
        raise Failed("the program 'docker' is not installed") from None
    if done.returncode:
        said = done.stderr.strip().splitlines() or ["no word"]
        raise Failed(f"docker {words[0]}: {said[-1]}")
    return done.stdout.strip()


@contextlib.contextmanager
def image(name: str) -> Iterator[str]:
    """The image to run: `name`, or one built from this tree, which is removed at the end."""
    if name:
        yield name
        return
    built = f"cacheserver-pressure-{uuid.uuid4().hex[:8]}"
    docker("build", "-q", "-t", built, str(ROOT), seconds=1800)
    try:
        yield built
    finally:
        with contextlib.suppress(Failed):
            docker("rmi", built)


@contextlib.contextmanager
def container(image_name: str, port: int) -> Iterator[str]:
    """Run the image with FIRST MiB, its port published on 127.0.0.1:`port`; removed at the end."""
    name = f"cacheserver-pressure-{uuid.uuid4().hex[:8]}"
    try:
        docker("run", "-d", "--name", name, *limits(FIRST), "-p", f"{HOST}:{port}:11211", image_name)
        until(lambda: answers(port), PATIENCE, "the server in the container does not answer")
        yield name
    finally:
        with contextlib.suppress(Failed):
            docker("rm", "-f", name)


def limits(mib: int) -> list[str]:
    """The options for a limit without swap beside it."""
    return ["-m", f"{mib}m", "--memory-swap", f"{mib}m"]


def answers(port: int) -> bool:
    try:
        with Wire((HOST, port), timeout=1.0) as wire:
            return wire.ask(b"version\r\n").startswith(b"VERSION ")
    except (OSError, EOFError):
        return False


def kills(name: str) -> int:
    """How many processes of the container the kernel has killed for want of memory."""
    for path in COUNTS:
        with contextlib.suppress(Failed):
            text = docker("exec", name, "cat", path)
            return int(dict(line.split() for line in text.splitlines()).get("oom_kill", 0))
    raise Failed("the container shows no count of kills")


def hogs(name: str, wire: Wire, runs: int) -> bool:
    """Run the hogs, a row each; whether all of them ended by themselves."""
    print("| seed | hog MiB | GiB/s | achieved | kills |\n|---|---|---|---|---|", flush=True)
    text = Path(hog.__file__).read_text()
    good = True
    for seed in range(runs):
        dice = random.Random(seed)
        mib, rate = int(dice.uniform(*SIZES)), dice.uniform(*RATES)
        words = ["docker", "exec", "-i", name, "python3", "-c", text, *hog_words(mib, rate * GIB, HOLD)]
        with Hog(words, mib) as one:
            until(lambda: is_full(wire), PATIENCE, "the server does not fill its container")
            one.go()
            taken = one.taken()
            ended = one.ended()
        good = good and ended
        got = mib * MIB / GIB / (taken[1] - taken[0]) if taken else 0.0
        print(f"| {seed} | {mib} | {rate:.2f} | {got:.2f} | {kills(name)} |", flush=True)
    return good


def change(name: str, wire: Wire, mib: int, up: bool) -> tuple[int, float]:
    """Set the container's limit: (how often it was refused, seconds until the server had followed)."""
    refused, end = 0, time.monotonic() + PATIENCE
    while True:
        try:
            docker("update", *limits(mib), name)
            break
        except Failed:
            refused += 1
            if time.monotonic() > end:
                raise
    begun = time.monotonic()

    def followed() -> bool:
        stats = wire.stats()
        free = int(stats["pressure_headroom"]) >= 0.9 * int(stats["pressure_reserve"])
        return int(stats["pressure_limit"]) == mib * MIB and (is_full(wire) if up else free)

    until(followed, PATIENCE, f"{mib} MiB are not followed", every=0.01)
    return refused, time.monotonic() - begun


def changes(name: str, wire: Wire) -> None:
    """Raise the limit and lower it, a row each."""
    print("\n| limit MiB | commands | refused | followed s, longest | server holds MiB | kills |")
    print("|---|---|---|---|---|---|", flush=True)

    def row(words: str, count: int, refused: int, longest: float) -> None:
        holds = int(wire.stats()["bytes"]) / MIB
        print(f"| {words} | {count} | {refused} | {longest:.2f} | {holds:.0f} | {kills(name)} |", flush=True)

    refused, longest = change(name, wire, RAISED, True)
    row(f"{FIRST} to {RAISED}", 1, refused, longest)
    limit, count, refused, longest = RAISED, 0, 0, 0.0
    while limit > LOWERED:
        step = int(int(wire.stats()["pressure_reserve"]) * STEP_SHARE / MIB)
        limit = max(LOWERED, limit - max(1, step))
        no, seconds = change(name, wire, limit, False)
        count, refused, longest = count + 1, refused + no, max(longest, seconds)
    row(f"{RAISED} to {LOWERED}", count, refused, longest)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--image", default="", help="an image of the server; without it one is built")
    parser.add_argument("--runs", type=int, default=10, help="how many hogs")
    wanted = parser.parse_args()
    port = free_port()
    version = docker("version", "-f", "{{.Server.Version}}")
    with (
        image(wanted.image) as name_of_image,
        container(name_of_image, port) as name,
        Writer((HOST, port), VALUE) as writer,
        Wire((HOST, port), timeout=TOLD) as wire,
    ):
        print(f"a container of {FIRST} MiB, docker {version}; {machine()}\n")
        good = hogs(name, wire, wanted.runs)
        changes(name, wire)
        state = json.loads(docker("inspect", "-f", "{{json .State}}", name))
        count = kills(name)
        print(
            f"\nOOMKilled {str(state['OOMKilled']).lower()}, {count} killed, status {state['Status']},"
            f" {writer.refused} sets refused"
        )
    return int(not good or count > 0 or state["OOMKilled"] or state["Status"] != "running")


if __name__ == "__main__":
    sys.exit(run(main))
