"""The scene of the pressure benchmarks: a limited group, a full server in it, its writer, and a hog.

Knows: cgroups, processes, the text protocol as far as `set` and `get`. Must not know: what is measured. The
server and the hog are in the group; writer and measuring program are outside. Everything ends with the `with`
block that made it, by an interrupt too.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.sharedctypes import RawValue
from pathlib import Path
from types import TracebackType

from loadtest.groups import NoGroup
from tests import hog
from tests.limits import Group, joining, limited_group
from tests.servers import HOST, Server, command, free_port
from tests.wire import Address, Wire

KIB = 1 << 10
MIB = 1 << 20
GIB = 1 << 30
KEY_BYTES = 20
BLOCK = 256 * KIB  # bytes of sets that are sent at once
MARK = b"########"  # stands in a block for its number: replacing it is the fastest way to new keys
STORED = b"STORED\r\n"
FILL_SECONDS = 900.0  # at most, for a group to become full; an emulated machine writes some MiB a second
FIRST = -5  # the priority of a hog that is to get its rate, beside processes that keep all processors busy
TOLD = 60.0  # seconds that a hog may take to start, and to report


class Failed(Exception):
    """What went wrong with the scene itself, in one line."""


def keys_in_block(value: int) -> int:
    """How many sets of `value` bytes are sent at once."""
    return max(1, BLOCK // (value + 40))


def key(value: int, number: int) -> bytes:
    """The key of the set with this number, which a Writer of `value` bytes makes; 20 bytes."""
    block, at = divmod(number, keys_in_block(value))
    return b"%04d%08x%08d" % (value, block, at)


class Writer:
    """A process that sets ever new keys to values of one size, as fast as the server takes them.

    Two blocks are under way at any time, so the server never waits for it. `pause` and `go_on` are obeyed
    between two blocks. Ends with the `with` block.
    """

    def __init__(self, address: Address, value: int) -> None:
        """Start writing values of `value` bytes to `address`."""
        self.value = value
        self._stored = RawValue("Q")
        self._refused = RawValue("Q")
        self._may_write = multiprocessing.Event()
        self._may_write.set()
        self._idle = multiprocessing.Event()
        self._process = multiprocessing.Process(target=self._run, args=(address,), daemon=True)
        self._process.start()

    def __enter__(self) -> Writer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.join()

    @property
    def stored(self) -> int:
        """How many sets have been answered: the keys numbered below were stored."""
        return int(self._stored.value)

    @property
    def refused(self) -> int:
        """How many sets were answered with an error."""
        return int(self._refused.value)

    def pause(self) -> None:
        """Stop writing; returns when every set has been answered."""
        self._idle.clear()
        self._may_write.clear()
        self._idle.wait(TOLD)

    def go_on(self) -> None:
        self._may_write.set()

    def _run(self, address: Address) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends this process
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        with contextlib.suppress(OSError, EOFError), Wire(address, timeout=TOLD) as wire:
            self._write(wire)

    def _write(self, wire: Wire) -> None:
        count = keys_in_block(self.value)
        tail = b" 0 0 %d\r\n" % self.value + b"v" * self.value + b"\r\n"
        block = b"".join(b"set %04d%b%08d" % (self.value, MARK, at) + tail for at in range(count))
        number = waiting = 0
        rest = b""
        while True:
            if self._may_write.is_set():
                while waiting < 2 * count:
                    wire.send(block.replace(MARK, b"%08x" % number))
                    number += 1
                    waiting += count
            elif not waiting:
                self._idle.set()
                self._may_write.wait()
                continue
            data = rest + wire.socket.recv(1 << 16)
            end = data.rfind(b"\n") + 1
            if not data or (end == 0 and len(data) > KIB):
                raise EOFError
            lines, good = data.count(b"\n", 0, end), data.count(STORED, 0, end)
            rest = data[end:]
            waiting -= lines
            self._refused.value += lines - good
            self._stored.value += lines


class Hog:
    """A process of tests.hog, started and waiting. Ends with the `with` block."""

    def __init__(self, argv: Sequence[str], mib: int) -> None:
        """Start `argv`, which runs tests.hog with --wait, and wait until it is ready."""
        self.mib = mib
        self.process = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        if self._line() != "ready":
            self.process.kill()
            raise Failed(f"the hog did not start: {' '.join(argv[:4])} ended with {self.process.wait()}")

    def __enter__(self) -> Hog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.kill()
        self.process.wait()

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def go(self) -> None:
        """Let it begin."""
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write("go\n")
            self.process.stdin.flush()

    def taken(self) -> tuple[float, float] | None:
        """Wait until it has all: (begun, ended) on the monotonic clock; None: it was killed before."""
        if self._line() != "holding":
            return None
        begun, ended = map(float, self._line().split())
        return begun, ended

    def ended(self) -> bool:
        """Wait for its end: whether it ended by itself."""
        return self.process.wait(TOLD) == 0


def hog_words(mib: int, rate: float, hold: float) -> list[str]:
    """Arguments for tests.hog: take `mib` at `rate` bytes a second (0: full speed), hold `hold` seconds."""
    seconds = mib * MIB / rate if rate else 0.0
    return ["--mib", str(mib), "--seconds", str(seconds), "--hold", str(hold), "--wait"]


def hog_in(group: Path, mib: int, rate: float, hold: float, nice: int = 0) -> Hog:
    """Start a hog in the cgroup at `group`, with the priority `nice` where that is allowed."""
    # By its file, not as a module of the package: less of the interpreter in the group.
    program = [sys.executable, "-S", hog.__file__, *hog_words(mib, rate, hold)]
    one = Hog(joining(group, program), mib)
    with contextlib.suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, one.process.pid, nice)
    return one


@dataclass
class Scene:
    """A limited group with a server that a writer keeps full."""

    group: Group
    server: Server
    writer: Writer
    wire: Wire  # for questions to the server

    def number(self, name: str) -> int:
        """One field of `stats`, as a number."""
        return int(self.wire.stats()[name])

    def until_full(self) -> float:
        """Wait until the server has grown to its reserve; returns the seconds. Failed when it never does."""
        begun = time.monotonic()
        until(lambda: is_full(self.wire), FILL_SECONDS, "the server does not fill its group")
        return time.monotonic() - begun

    def hits(self, count: int = 1000) -> float:
        """The share that is found of `count` keys spread over the newest nine tenths of what it says to hold.

        A cache that drops its oldest first has them all.
        """
        newest = self.writer.stored
        span = min(newest, self.number("curr_items") * 9 // 10)
        numbers = [newest - 1 - span * at // count for at in range(min(count, span))]
        found = 0
        for begin in range(0, len(numbers), 50):
            found += len(self.wire.get_many([key(self.writer.value, n) for n in numbers[begin : begin + 50]]))
        return found / len(numbers) if numbers else 0.0

    def dead(self) -> bool:
        """Whether the server has ended."""
        return not self.server.running()


def is_full(wire: Wire) -> bool:
    """Whether the server has grown into the 3 % above its reserve, where it stays; a few pages aside."""
    stats = wire.stats()
    headroom, reserve = int(stats["pressure_headroom"]), int(stats["pressure_reserve"])
    return int(stats["evictions"]) > 0 and headroom < 1.03 * reserve + 4 * MIB


def until(condition: Callable[[], bool], seconds: float, failure: str, every: float = 0.05) -> None:
    """Poll `condition` until it holds twice in a row; Failed with `failure` after `seconds`."""
    end = time.monotonic() + seconds
    while not (condition() and condition()):
        if time.monotonic() > end:
            raise Failed(f"{failure} within {seconds:.0f} s")
        time.sleep(every)


@contextlib.contextmanager
def scene(limit: int, value: int, module: str = "", stdin: int = subprocess.DEVNULL) -> Iterator[Scene]:
    """Make a group of `limit` bytes, a server with its own defaults in it, and a writer of `value` bytes.

    `module`: run this module of Python instead of the server's own, with the same flags.
    """
    port = free_port()
    argv = [sys.executable, "-m", module, "-l", HOST, "-p", str(port)] if module else command(port)
    with (
        limited_group(limit) as group,
        Server(argv, (HOST, port), group=group.path, stdin=stdin) as server,
        Writer((HOST, port), value) as writer,
        server.connect(timeout=TOLD) as wire,
    ):
        yield Scene(group, server, writer, wire)


def percentile(values: Sequence[float], share: float) -> float:
    """The value that `share` of all are not above."""
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def run(main: Callable[[], int]) -> int:
    """Run a program: what stops it is one line, and its groups and processes go with it, whatever ends it."""
    signal.signal(signal.SIGTERM, _interrupt)
    signal.signal(signal.SIGHUP, _interrupt)
    try:
        return main()
    except (EOFError, ConnectionError):
        print(f"{Path(sys.argv[0]).stem}: the server has closed its connection", file=sys.stderr)
        return 2
    except (Failed, NoGroup, AssertionError) as error:
        print(f"{Path(sys.argv[0]).stem}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _interrupt(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt


def machine() -> str:
    """One line that says what the figures were taken on."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return f"{os.cpu_count()} CPUs, {memory / GIB:.1f} GiB, Linux {os.uname().release}"
