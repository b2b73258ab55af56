"""Starts and stops server processes: the server under test and Debian's memcached as the reference.

Knows: command lines, processes, signals. Must not know: what the server is made of. The environment variable
CACHESERVER_TEST_COMMAND replaces the server under test, `{port}` standing for the port; with
"memcached -u root -l 127.0.0.1 -U 0 -p {port}" the tests are tried against memcached itself.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO

from tests.limits import joining
from tests.requirements import require_tool
from tests.wire import TIMEOUT, Address, Wire

HOST = "127.0.0.1"
START_TIMEOUT = 20.0
REPLACEMENT = os.environ.get("CACHESERVER_TEST_COMMAND", "")


def free_port(host: str = HOST) -> int:
    """Return a TCP port that nobody listens on at the moment."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def command(port: int, *flags: str) -> list[str]:
    """Return the command line of the server under test on 127.0.0.1:`port`."""
    if REPLACEMENT:
        return [*shlex.split(REPLACEMENT.format(port=port)), *flags]
    return [sys.executable, "-m", "cacheserver", "-l", HOST, "-p", str(port), *flags]


def bare_command(*flags: str) -> list[str]:
    """Return the command line of the server under test with no address chosen."""
    if REPLACEMENT:
        return [shlex.split(REPLACEMENT)[0], "-u", "root", *flags]
    return [sys.executable, "-m", "cacheserver", *flags]


def reference_command(port: int, *flags: str) -> list[str]:
    """Return the command line of Debian's memcached on 127.0.0.1:`port`."""
    memcached = require_tool("memcached")
    return [memcached, "-u", "root", "-l", HOST, "-U", "0", "-p", str(port), *flags]


class Server:
    """A running server process; ends with the `with` block, at the latest by SIGKILL."""

    def __init__(
        self,
        argv: Sequence[str],
        address: Address | None,
        *,
        group: Path | None = None,
        environment: Mapping[str, str] | None = None,
        stdin: int = subprocess.DEVNULL,
    ) -> None:
        """Start `argv` and wait until `address` accepts (None: no waiting).

        `group` is the directory of a memory cgroup that the process joins before its program is loaded.
        """
        self.address = address
        self.argv = list(argv)
        # Files, not pipes: a server that talks much must not wait for a test to read it.
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115
        self._output: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115
        self.process = subprocess.Popen(
            joining(group, argv),
            stdin=stdin,
            stdout=self._output,
            stderr=self._errors,
            env={**os.environ, **(environment or {})},
        )
        if address is not None:
            self._wait_until_open(address)

    def __enter__(self) -> Server:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    def _wait_until_open(self, address: Address) -> None:
        deadline = time.monotonic() + START_TIMEOUT
        while True:
            try:
                with Wire(address, timeout=1.0) as wire:
                    if wire.ask(b"version\r\n").startswith((b"VERSION ", b"CLIENT_ERROR unauthenticated")):
                        wire.leave()
                        return
            except (OSError, EOFError):
                pass
            if self.process.poll() is not None or time.monotonic() > deadline:
                text = self.errors()
                self.kill()
                raise AssertionError(f"{shlex.join(self.argv)} did not start: {text.strip()}")
            time.sleep(0.02)

    @property
    def pid(self) -> int:
        return self.process.pid

    def running(self) -> bool:
        return self.process.poll() is None

    def connect(self, *, timeout: float = TIMEOUT, receive_buffer: int = 0) -> Wire:
        """Open a connection to the address given at the start."""
        assert self.address is not None
        return Wire(self.address, timeout=timeout, receive_buffer=receive_buffer)

    def stats(self, argument: bytes = b"") -> dict[str, str]:
        with self.connect() as wire:
            found = wire.stats(argument)
            wire.leave()
            return found

    def rss(self) -> int:
        """Resident bytes of the process, as the kernel counts them."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def cpu_seconds(self) -> float:
        """Processor time the process has used, in seconds."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def open_files(self) -> int:
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def errors(self) -> str:
        """What the process has written to stderr so far."""
        return _written(self._errors)

    def output(self) -> str:
        """What the process has written to stdout so far."""
        return _written(self._output)

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def wait(self, timeout: float) -> int:
        """Return the exit status; subprocess.TimeoutExpired after `timeout` seconds."""
        return self.process.wait(timeout)

    def kill(self) -> None:
        """End the process: SIGTERM, after 3 s SIGKILL."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(3)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(10)
        for stream in (self._errors, self._output):
            with contextlib.suppress(OSError):
                stream.close()


def _written(stream: IO[bytes]) -> str:
    size = os.fstat(stream.fileno()).st_size
    return os.pread(stream.fileno(), size, 0).decode(errors="replace")


@contextlib.contextmanager
def serving(*flags: str, group: Path | None = None) -> Iterator[Server]:
    """Run the server under test with `flags` on a free port of 127.0.0.1."""
    port = free_port()
    with Server(command(port, *flags), (HOST, port), group=group) as server:
        yield server


@contextlib.contextmanager
def reference(*flags: str) -> Iterator[Server]:
    """Run Debian's memcached with `flags` on a free port of 127.0.0.1."""
    port = free_port()
    with Server(reference_command(port, *flags), (HOST, port)) as server:
        yield server


def run_to_end(argv: Sequence[str], timeout: float = 20.0) -> subprocess.CompletedProcess[str]:
    """Run a command that is expected to end by itself; return its status and texts."""
    return subprocess.run(
        argv, capture_output=True, text=True, timeout=timeout, stdin=subprocess.DEVNULL, check=False
    )
