"""Instructions a request takes from received bytes to the call of send(), against a budget for each command.

From the repository root (half a minute of processor time; valgrind must be installed):

    python -m tests.bench.instructions              # every command
    python -m tests.bench.instructions get set_64k  # these
    python -m tests.bench.instructions --update     # make what is counted now the budgets

Counted are those of the process while its reactor serves a batch: take the events, receive, parse, execute,
format, send. What the kernel does is not in it, nor what a cache miss costs; in turn the counts do not depend
on the machine or on what else runs there. They do depend on the compiler, so the budgets name it. Ends with 1
when a command takes 5 % more than its budget; where it takes 5 % less, the budget should follow.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cacheserver.engine
from tests.bench.instructions_stream import CASES

BUDGETS = Path(__file__).with_suffix(".toml")
PERCENT = 5  # of a budget: what a change may add to it without a word, or save
SERVE = "__pyx_f_11cacheserver_3net_5serve_serve"  # serve() of cacheserver/net/serve.pyx
# libc has several forms of its string functions and takes what suits the processor; here it takes plain ones.
PLAIN = (
    "glibc.cpu.hwcaps=-AVX512F,-AVX512VL,-AVX2,-AVX_Fast_Unaligned_Load,-ERMS,-FSRM,-SSSE3,-SSE4_1,-SSE4_2"
)
ROOT = Path(__file__).resolve().parents[2]


class CountError(Exception):
    """Nothing could be counted; the text is one line for whoever asked."""


@dataclass(frozen=True)
class Budgets:
    """Instructions a request by case, and what they were counted on."""

    built: str
    of: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> Budgets:
        """Raises CountError where there are none."""
        try:
            with path.open("rb") as file:
                known = tomllib.load(file)
            return cls(str(known["built"]), {name: int(count) for name, count in known["budgets"].items()})
        except (OSError, ValueError, KeyError) as error:
            raise CountError(f"{path}: no budgets ({error!r}); --update writes them") from None

    def write(self, path: Path) -> None:
        lines = [
            "# Instructions a request; written by `python -m tests.bench.instructions --update`.",
            f'built = "{self.built}"',
            "",
            "[budgets]",
            *(f"{name} = {count}" for name, count in self.of.items()),
        ]
        path.write_text("\n".join(lines) + "\n", encoding="ascii")


def built() -> str:
    """What the extensions were built for, and with; the compiler leaves its name in what it makes."""
    found = re.search(
        rb"GCC: \([^)]*\) (\d+)|clang version (\d+)", Path(cacheserver.engine.__file__).read_bytes()
    )
    if found is None:
        raise CountError("cannot tell which compiler built the extensions: were they stripped?")
    compiler = f"gcc {found[1].decode()}" if found[1] else f"clang {found[2].decode()}"
    return f"{compiler}, {platform.machine()}"


def total(path: Path) -> int:
    """Return the instructions that callgrind's output file `path` sums up."""
    found = re.search(r"^(?:totals|summary): (\d+)$", path.read_text(encoding="ascii"), re.MULTILINE)
    return int(found[1]) if found else 0


def count(names: Sequence[str]) -> dict[str, int]:
    """Return the instructions a request of each case. Raises CountError."""
    valgrind = shutil.which("valgrind")
    if valgrind is None:
        raise CountError("the program 'valgrind' is not installed; install it (apt-get install valgrind)")
    with tempfile.TemporaryDirectory() as folder:
        argv = [
            *(valgrind, "-q", "--tool=callgrind", f"--toggle-collect={SERVE}"),
            f"--callgrind-out-file={folder}/%p",
            *(sys.executable, "-m", "tests.bench.instructions_stream", *names),
        ]
        done = subprocess.run(
            argv, cwd=ROOT, env={**os.environ, "GLIBC_TUNABLES": PLAIN}, capture_output=True, text=True
        )
        if done.returncode:
            reason = done.stderr.strip().splitlines()[-1:] or [f"valgrind ended with {done.returncode}"]
            raise CountError(reason[0])
        totals: dict[str, list[int]] = {}
        for name, _, pid in map(str.split, done.stdout.splitlines()):
            totals.setdefault(name, []).append(total(Path(folder, pid)))
    if not all(one < two for one, two in totals.values()):
        raise CountError(f"nothing was counted: does {SERVE} still serve a batch?")
    return {name: round((two - one) / CASES[name].round) for name, (one, two) in totals.items()}


def verdict(name: str, counted: int, budget: int | None) -> tuple[bool, str]:
    """Return whether a case keeps within its budget, and what is to be said of it ("" for nothing)."""
    if budget is None:
        return False, f"{name}: {counted} instructions a request and no budget; --update makes one"
    change = counted / budget - 1
    if 100 * abs(counted - budget) <= PERCENT * budget:
        return True, ""
    text = f"{name}: {counted} instructions a request, {abs(change):.1%} {{}} its budget of {budget}; {{}}"
    if change > 0:
        return False, text.format("above", "save them, or --update the budget and say why")
    return True, text.format("below", "--update the budget, so that it stays")


def verdicts(counted: Mapping[str, int], budgets: Budgets, now: str) -> Iterator[tuple[bool, str]]:
    """Yield verdict() of every case."""
    if budgets.built != now:
        # Whether another compiler's code is longer says nothing about a change of ours.
        yield False, f"the budgets are of {budgets.built}, this is {now}; --update them from a good tree"
        return
    for name, number in counted.items():
        yield verdict(name, number, budgets.of.get(name))


def main(given: Sequence[str] | None = None, path: Path = BUDGETS) -> int:
    """Run as a program."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.instructions",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("cases", nargs="*", metavar="case", help="(all) " + " ".join(CASES))
    parser.add_argument("--update", action="store_true", help="make what is counted the budgets")
    plan = parser.parse_args(given)
    for name in set(plan.cases) - CASES.keys():
        parser.error(f"there is no case {name}")
    try:
        now = built()
        known = Budgets(now) if plan.update and not path.exists() else Budgets.read(path)
        counted = count(plan.cases or list(CASES))
    except CountError as error:
        print(f"instructions: {error}", file=sys.stderr)
        return 1
    for name, number in counted.items():
        print(f"{name:12} {number:7} (budget {known.of.get(name, 'none')})")
    if plan.update:
        kept = known.of if known.built == now else {}
        Budgets(now, {name: number for name, number in {**kept, **counted}.items() if name in CASES}).write(
            path
        )
        return 0
    said = list(verdicts(counted, known, now))
    for _, text in said:
        if text:
            print(f"instructions: {text}", file=sys.stderr)
    return 0 if all(good for good, _ in said) else 1


if __name__ == "__main__":
    sys.exit(main())
