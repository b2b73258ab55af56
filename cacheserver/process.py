"""What the operating system keeps for a whole process: its limits, its user, its id in a file, its terminal.

Knows: setrlimit, setuid, fork. Must not know: sockets, threads, memory.
Threads: everything here happens before the first thread starts, but for Daemon.ready().
"""

import contextlib
import os
import pwd
import resource
import signal
import sys
from collections.abc import Iterator
from typing import Any, NoReturn

from cacheserver.errors import StartError

FILES_BESIDE_CONNECTIONS = 96  # listeners, epoll sets, /proc and cgroup files, the standard streams

ENDING_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


def fill_standard_streams() -> None:
    """Open /dev/null where stdin, stdout or stderr is closed, so that no socket gets its number."""
    for stream in (0, 1, 2):
        try:
            os.fstat(stream)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free: those below are filled already


def end_on_signals() -> None:
    """Let a signal that ends the server do so before it serves, too: by SystemExit, so files are removed."""

    def end(_number: int, _frame: Any) -> NoReturn:
        for number in ENDING_SIGNALS:
            signal.signal(number, signal.SIG_IGN)  # a second one must not cut the way out short
        raise SystemExit(0)

    for number in ENDING_SIGNALS:
        signal.signal(number, end)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


def allow_files(connections: int, workers: int, sockets: int = 0) -> None:
    """Raise RLIMIT_NOFILE so that `connections` and the server's own files fit. Raises StartError.

    sockets: for UDP, in each worker.
    """
    needed = connections + reserved_files(workers, sockets)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    raised = hard if hard == resource.RLIM_INFINITY else max(hard, needed)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, raised))
    except (ValueError, OSError):
        most = _most_files()
        if needed > most:
            raise StartError(
                f"-c {connections} needs {needed} open files, the system allows {most} to any process; raise "
                "that (sysctl fs.nr_open) or ask for fewer connections"
            ) from None
        raise StartError(
            f"-c {connections} needs {needed} open files, the system allows {hard}; start as root, raise the "
            "limit (ulimit -n) or ask for fewer connections"
        ) from None


def reserved_files(workers: int, sockets: int = 0) -> int:
    """Return the number of files that are kept free for the server itself. sockets: as above."""
    return FILES_BESIDE_CONNECTIONS + (8 + sockets) * workers


def _most_files() -> int:
    """The number of open files that not even root can exceed."""
    try:
        with open("/proc/sys/fs/nr_open", encoding="ascii") as file:
            return int(file.read())
    except (OSError, ValueError):
        return sys.maxsize


def allow_core_dumps() -> None:
    """Raise the limit of the core file size as far as it goes. Raises StartError where that is nothing."""
    for limit in (resource.RLIM_INFINITY, resource.getrlimit(resource.RLIMIT_CORE)[1]):
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_CORE, (limit, limit))
            break
    if resource.getrlimit(resource.RLIMIT_CORE)[0] == 0:
        raise StartError("-r: the system allows no core files; raise the hard limit (ulimit -Hc)")


def new_user(name: str | None) -> tuple[int, int] | None:
    """Return (uid, gid) of the user to become, by name or number; None where nothing is to change.

    Only root can change, so for any other user the flag says nothing. Raises StartError.
    """
    if name is None or os.geteuid() != 0:
        return None
    with contextlib.suppress(KeyError, OverflowError, ValueError):
        entry = pwd.getpwuid(int(name)) if name.isdecimal() else pwd.getpwnam(name)
        return entry.pw_uid, entry.pw_gid
    raise StartError(f"-u {name}: there is no such user; give a name or number that /etc/passwd has")


def become(user: tuple[int, int]) -> None:
    """Give up root for `user` (uid, gid), with that one group and no others. Raises StartError."""
    uid, gid = user
    try:
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    except OSError as error:
        raise StartError(f"cannot become the user {uid} that -u names: {error.strerror}") from None


class Daemon:
    """The process that goes on after its starter returned; until ready() it keeps the terminal for errors."""

    def __init__(self, pipe: int) -> None:
        self._pipe = pipe

    def ready(self, *, keep_output: bool, keep_folder: bool) -> None:
        """Let the starter return 0; leave the terminal (`keep_output`: but for the log) and the folder."""
        if not keep_folder:
            os.chdir("/")
        null = os.open(os.devnull, os.O_RDWR)
        for stream in (0,) if keep_output else (0, 1, 2):
            os.dup2(null, stream)
        os.close(null)
        os.write(self._pipe, b"1")
        os.close(self._pipe)


def daemonize() -> Daemon:
    """Go on in a process of a session of its own; the starter waits for its ready(), or its end, and ends."""
    reader, writer = os.pipe()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, OSError):  # None where it was closed; full
            stream.flush()
    if os.fork():
        for number in ENDING_SIGNALS:
            signal.signal(number, signal.SIG_DFL)  # what there is to clean up is the daemon's now
        os.close(writer)
        os._exit(0 if os.read(reader, 1) else 1)
    os.close(reader)
    os.setsid()
    return Daemon(writer)


@contextlib.contextmanager
def pidfile(path: str | None) -> Iterator[None]:
    """Keep this process's id in the file `path` while the block runs. Raises StartError."""
    if path is None:
        yield
        return
    try:
        file = open(path, "w", encoding="ascii")  # noqa: SIM115
    except OSError as error:
        raise _unwritable(path, error) from None
    try:
        try:
            with file:
                file.write(f"{os.getpid()}\n")
        except OSError as error:
            raise _unwritable(path, error) from None
        yield
    finally:
        with contextlib.suppress(OSError):  # after a change of user the folder may be out of reach
            os.unlink(path)


def _unwritable(path: str, error: OSError) -> StartError:
    return StartError(
        f"-P {path}: cannot write the process id: {error.strerror}; give a file in a folder that exists and "
        "may be written to"
    )
