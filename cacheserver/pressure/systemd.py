"""Notices that a service manager has arranged: MEMORY_PRESSURE_WATCH and MEMORY_PRESSURE_WRITE.

Knows: the protocol (systemd, docs/PRESSURE.md). Must not know: what the monitor makes of it. Memory: owns one
descriptor (notice).

The path may be a PSI file, a FIFO or a socket; the text, Base64, is written to it once it is open: it holds
the thresholds that the operator has set for the service, and so takes the place of the trigger in psi.
"""

from __future__ import annotations

import base64
import os
import select
import socket
import stat

from cacheserver.pressure.mounts import file_system
from cacheserver.pressure.notice import NoticeSource
from cacheserver.pressure.source import Trouble

PSI_FILE_SYSTEMS = ("proc", "cgroup2")


class ServiceSource(NoticeSource):
    """The watch at path `watch`. `write`: Base64, "" for nothing. `root`: the directory that holds proc."""

    name = "systemd"

    def __init__(self, watch: str, write: str = "", root: str = "/") -> None:
        super().__init__(Trouble(f"MEMORY_PRESSURE_WATCH={watch}"))
        self._path = watch
        self._write = write
        self._mountinfo = os.path.join(root, "proc/self/mountinfo")

    def _open(self) -> tuple[int, int]:
        if not os.path.isabs(self._path) or os.path.normpath(self._path) != self._path:
            raise ValueError("not an absolute path without . and ..")
        try:
            text = base64.b64decode(self._write, validate=True)
        except ValueError:
            raise ValueError("MEMORY_PRESSURE_WRITE is not Base64") from None
        mode = os.stat(self._path).st_mode
        if stat.S_ISSOCK(mode):
            fd, events = self._connect(), select.POLLIN
        elif stat.S_ISFIFO(mode):
            fd, events = self._open_fifo(bool(text)), select.POLLIN
        elif stat.S_ISREG(mode):
            fd, events = self._open_file(bool(text)), select.POLLPRI
        else:
            raise ValueError("neither a PSI file nor a FIFO nor a socket")
        try:
            if text and os.write(fd, text) != len(text):
                raise ValueError("MEMORY_PRESSURE_WRITE was taken in part only")
        except BaseException:
            os.close(fd)
            raise
        return fd, events

    def _connect(self) -> int:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stream:
            stream.setblocking(False)
            stream.connect(self._path)
            return stream.detach()

    def _open_fifo(self, write: bool) -> int:
        flags = os.O_NONBLOCK | os.O_CLOEXEC
        try:
            # A writer's end of our own: without it, poll tells of a hang-up whenever no writer is there.
            return os.open(self._path, os.O_RDWR | flags)
        except PermissionError:
            if write:
                raise
            return os.open(self._path, os.O_RDONLY | flags)

    def _open_file(self, write: bool) -> int:
        flags = os.O_RDWR if write else os.O_RDONLY
        fd = os.open(self._path, flags | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            # Anything else would be damaged by the text, and never becomes ready.
            with open(self._mountinfo, errors="surrogateescape") as file:
                kind = file_system(file.read(), os.fstat(fd).st_dev)
            if kind not in PSI_FILE_SYSTEMS:
                raise ValueError("a regular file, but not one of the kernel's PSI files")
        except BaseException:
            os.close(fd)
            raise
        return fd
