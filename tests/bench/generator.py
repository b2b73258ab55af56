"""What the load generator itself costs, and whether another one of the same loads gets more out of a server.

From the repository root, on a quiet machine with 2 CPUs or more (four minutes; with --against six):

    python -m tests.bench.generator
    python -m tests.bench.generator --against <file.c>

The server has the first CPU and one thread, the generator the second. Three tables:

Capacity: gets of 100 bytes, 50 connections, so many in flight on each as the depth says; of cacheserver and
of a sink that answers without looking (generator_sink). A generator that is faster than the server waits
for it, so its rate says nothing about itself. Its processor time does: what the kernel has charged its
process for (getrusage, user and system) while so many requests were answered. Capacity = requests /
processor seconds: the rate at which one core would be busy with nothing else. "user" is the generator's own
code; the rest is the kernel's: sockets, copies, wake-ups.

Open loop, of Debian's memcached and of cacheserver, medians: the rate that came of the one asked for, and
the latency, which counts from the time at which a request was due, beside that of the service, which counts
from the send. At low rates both equal those of a closed loop of one connection, where no request waits for
another either. The server's processor is kept awake meanwhile: it would sleep between requests that are far
apart, and waking it takes longer than a request. At 95 % of what a closed loop of 8 connections gets,
requests wait before they can be sent: the closed loop asks less instead, so its latency hides that.

Beside another generator, of which the C source is given: five loads of Debian's memcached, in turns; the
median of the ratios of runs of the same round: of rates, and of the generators' processor time a request.
It is compiled with cc into a temporary directory. These options it must know: -p port, -c connections, -d
depth, -g percent of gets, -m keys of a get, -k keys, -s bytes of a value, -K bytes of a key, -t seconds, -w
seconds of warm-up, -P to set each key once; and it must print a JSON object with "ops" (requests a second),
"lg_cpu" (its share of a processor) and "errs".

Ends with 2 when it cannot measure.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from loadtest.address import probe
from loadtest.results import Histogram
from loadtest.run import LoadError, prefill
from loadtest.worker import Plan, generator
from loadtest.workload import Load, Workload
from tests.bench.beside import PROCESSORS
from tests.bench.beside import against as ratios
from tests.bench.speed import MEMORY, WARMUP, wait_until_open
from tests.servers import HOST, Server, command, free_port, reference_command

SMALL = Workload(keys=100_000, key_size="fixed:20", popularity="uniform")
LARGE = Workload(
    keys=1_000, key_size="fixed:18", popularity="uniform", value_size="fixed:65536", get_share=1.0
)
DEPTHS = (1, 16, 64)
RATES = (500.0, 5000.0)  # a second
SEVERAL = 8  # connections that keep a server busy
BUSY = 0.95  # of what these get out of it


class Case(NamedTuple):
    """A load in our words, and in the other generator's."""

    workload: Workload
    connections: int
    depth: int
    options: str


CASES = {
    "nopipe": Case(SMALL, 50, 1, "-c 50 -d 1 -g 90 -s 100 -k 100000"),
    "pipe16": Case(SMALL, 50, 16, "-c 50 -d 16 -g 90 -s 100 -k 100000"),
    "mget100": Case(
        SMALL._replace(get_share=1.0, multiget=100), 10, 1, "-c 10 -d 1 -g 100 -m 100 -s 100 -k 100000"
    ),
    "get64k": Case(LARGE, 10, 1, "-c 10 -d 1 -g 100 -s 65536 -k 1000 -K 18"),
    "conns1000": Case(SMALL, 1000, 1, "-c 1000 -d 1 -g 90 -s 100 -k 100000"),
}
FILLS = ("-P -c 4 -d 32 -s 100 -k 100000", "-P -c 2 -d 1 -s 65536 -k 1000 -K 18")


class Took(NamedTuple):
    """One run: requests a second, processor seconds a request, those of them in user mode, latencies."""

    rate: float
    cpu: float
    user: float
    latency: Histogram
    service: Histogram


def took(port: int, workload: Workload, load: Load) -> Took:
    """Make a load in this very process, so that what it uses is the generator's. Raises LoadError."""
    made = generator(Plan(probe(f"{HOST}:{port}", workload.protocol), workload, load, 0, 1, False))
    if problem := made.connect():
        raise LoadError(problem)
    start = time.monotonic_ns()
    made.begin(start)
    made.run(start + int(WARMUP * 1e9))
    made.take()
    before, begun = resource.getrusage(resource.RUSAGE_SELF), time.monotonic_ns()
    outcome = made.run(begun + int(load.seconds * 1e9))
    after, ended = resource.getrusage(resource.RUSAGE_SELF), time.monotonic_ns()
    counts, latency, service, _, _ = made.take()
    if outcome != "time" or counts[0] == 0:
        raise LoadError(made.trouble() or "no request was answered")
    user, system = after.ru_utime - before.ru_utime, after.ru_stime - before.ru_stime
    return Took(
        counts[0] * 1e9 / (ended - begun),
        (user + system) / counts[0],
        user / counts[0],
        Histogram.packed(*latency),
        Histogram.packed(*service),
    )


@contextmanager
def listening(port: int, words: list[str]) -> Iterator[int]:
    """Run a server on the first CPU, as long as the context lasts; this process has the second."""
    os.sched_setaffinity(0, {PROCESSORS[0]})
    with Server(words, None) as server:
        os.sched_setaffinity(0, {PROCESSORS[1]})
        wait_until_open(port)
        yield port
        if not server.running():
            raise LoadError(f"the server ended: {server.errors().strip()}")


@contextmanager
def awake(processor: int) -> Iterator[None]:
    """Keep a processor from sleeping, by a process that gives way to all others: it ends with this one."""
    spin = (
        "import os\n"
        f"os.sched_setaffinity(0, {{{processor}}})\n"
        "os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))\n"
        "parent = os.getppid()\n"
        "while os.getppid() == parent: pass\n"
    )
    with subprocess.Popen([sys.executable, "-c", spin]) as spinner:
        try:
            yield
        finally:
            spinner.kill()


def own(port: int) -> list[str]:
    return command(port, "-t", "1", "-c", "4096")


def memcached(port: int) -> list[str]:
    return reference_command(port, "-t", "1", "-m", str(MEMORY), "-c", "4096")


def sink(port: int) -> list[str]:
    return [sys.executable, "-m", "tests.bench.generator_sink", str(port)]


def capacity(rounds: int, seconds: float) -> None:
    """Print what gets cost the generator."""
    print("| gets, 50 connections | rate/s | CPU ns a get | of it user | capacity/s |")
    print("|---|---|---|---|---|")
    workload = SMALL._replace(get_share=1.0)
    for name, words in (("cacheserver", own), ("sink", sink)):
        with listening(port := free_port(), words(port)):
            if name != "sink":
                prefill(f"{HOST}:{port}", workload, Load(connections=4))
            for depth in DEPTHS:
                load = Load(connections=50, depth=depth, seconds=seconds)
                runs = [took(port, workload, load) for _ in range(rounds)]
                rate, cpu, user = (
                    statistics.median(each) for each in zip(*(run[:3] for run in runs), strict=True)
                )
                costs = f"{1e9 * cpu:.0f} | {1e9 * user:.0f} | {1 / cpu:,.0f}"
                print(f"| {name}, depth {depth} | {rate:,.0f} | {costs} |", flush=True)


def open_loop(rounds: int, seconds: float) -> None:
    """Print how a rate is held, and what either loop shows of a server at rest and of one at its limit."""
    print("| server, load | requests/s | p50, p99 us from due | from the send |")
    print("|---|---|---|---|")
    for name, words in (("memcached", memcached), ("cacheserver", own)):
        with listening(port := free_port(), words(port)), awake(PROCESSORS[0]):
            prefill(f"{HOST}:{port}", SMALL, Load(connections=4))
            seen: dict[str, list[Took]] = {}
            for _ in range(rounds):
                alone = Load(connections=1, seconds=seconds)
                several = alone._replace(connections=SEVERAL)
                seen.setdefault("closed, 1 connection", []).append(took(port, SMALL, alone))
                for rate in RATES:
                    seen.setdefault(f"open, {rate:.0f}/s", []).append(
                        took(port, SMALL, several._replace(rate=rate))
                    )
                most = took(port, SMALL, several)
                seen.setdefault(f"closed, {SEVERAL} connections", []).append(most)
                busy = several._replace(rate=BUSY * most.rate)
                seen.setdefault(f"open, {BUSY:.0%} of that", []).append(took(port, SMALL, busy))
        for load, runs in seen.items():
            due, sent = (times([getattr(run, kind) for run in runs]) for kind in ("latency", "service"))
            rate = statistics.median(run.rate for run in runs)
            print(f"| {name}, {load} | {rate:,.1f} | {due} | {sent} |", flush=True)


def times(histograms: list[Histogram]) -> str:
    """The medians of two percentiles."""
    found = (statistics.median(each.percentile(share) for each in histograms) for share in (50, 99))
    return ", ".join(f"{each:,.0f}" for each in found)


def other(program: Path, port: int, options: str) -> tuple[float, float]:
    """Run the other generator; returns requests a second, and processor seconds a request."""
    words = [str(program), "-p", str(port), *options.split()]
    try:
        done = subprocess.run(words, check=True, capture_output=True, text=True, timeout=120)
        said = json.loads(done.stdout)
        rate, cpu, errors = float(said["ops"]), float(said["lg_cpu"]), int(said["errs"])
    except (OSError, subprocess.SubprocessError, ValueError, KeyError) as error:
        raise LoadError(f"the other generator did not do it: {error}") from None
    if errors or rate <= 0:
        raise LoadError(f"the other generator had {errors} errors with {options}")
    return rate, cpu / rate


def against(source: Path, rounds: int, seconds: float) -> None:
    """Print the five cases beside the other generator."""
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder, "other")
        try:
            subprocess.run(["cc", "-O3", "-w", "-o", program, source], check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError) as error:
            raise LoadError(f"{source} cannot be compiled: {error}") from None
        print("| case | requests/s | the other's | ratio | CPU us a request | the other's | ratio |")
        print("|---|---|---|---|---|---|---|")
        with listening(port := free_port(), memcached(port)):
            for workload in (SMALL, LARGE):
                prefill(f"{HOST}:{port}", workload, Load(connections=4))
            for options in FILLS:
                other(program, port, options)
            for name, case in CASES.items():
                pairs = []
                for _ in range(rounds):
                    load = Load(connections=case.connections, depth=case.depth, seconds=seconds)
                    mine = took(port, case.workload, load)
                    pairs.append((mine, other(program, port, f"{case.options} -t {seconds} -w {WARMUP}")))
                print(row(name, pairs), flush=True)


def row(name: str, pairs: list[tuple[Took, tuple[float, float]]]) -> str:
    """Return one line of the table: medians, and those of the ratios of each round."""
    rates = compared([(mine.rate, its) for mine, (its, _) in pairs], ",.0f")
    costs = compared([(1e6 * mine.cpu, 1e6 * its) for mine, (_, its) in pairs], ".2f")
    return f"| {name} | {rates} | {costs} |"


def compared(pairs: list[tuple[float, float]], form: str) -> str:
    """Return three cells: the median of ours, of theirs, and of the ratios with their range."""
    mine, theirs = (statistics.median(each) for each in zip(*pairs, strict=True))
    return f"{mine:{form}} | {theirs:{form}} | {ratios(*zip(*pairs, strict=True))}"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.5, help="of each run")
    parser.add_argument("--against", type=Path, metavar="FILE", help="the other generator's C source")
    wanted = parser.parse_args()
    if len(PROCESSORS) < 2:
        print("generator: this needs a CPU for the server and one for the load", file=sys.stderr)
        return 2
    try:
        capacity(wanted.rounds, wanted.seconds)
        print()
        open_loop(wanted.rounds, wanted.seconds)
        if wanted.against is not None:
            print()
            against(wanted.against, wanted.rounds, wanted.seconds)
    except (LoadError, OSError) as error:
        print(f"generator: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
