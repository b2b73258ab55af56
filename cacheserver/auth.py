"""Who may log in: memcached's file of users, one `user:password` a line, read at the start and on SIGHUP.

Knows: the file's form and a token's (`user password`; the password may have spaces). Must not know:
connections, requests. Owns: the passwords, in memory as the file has them.
Threads: check() may be called from every worker at once, reload() from one thread at a time; what it reads
takes effect as a whole.
"""

import contextlib
import logging
import os

from cacheserver.errors import StartError, one_line

log = logging.getLogger("cacheserver.auth")

LINE_MAX = 255  # bytes with the line end, as in memcached
USERS_MAX = 8  # memcached takes the first eight and so do we, but aloud
FILE_MAX = 1 << 20  # bytes looked at

Entry = tuple[bytes, bytes]


class Users:
    """The users of the file at `path`. Raises StartError where it cannot be used."""

    def __init__(self, path: str) -> None:
        # Comes with all of hashlib, which a server that lets everybody in has no use for; and is loaded while
        # the process may still read it.
        from hmac import compare_digest

        self._same = compare_digest
        self._path = path
        self._entries = self._read()

    def check(self, token: bytes) -> bool:
        """Whether `token`, a user, a space and the password, is one of the file's.

        Every entry is compared in full, so that the time tells nothing about them but their lengths.
        """
        user, _, password = token.partition(b" ")
        found = False
        for each in self._entries:
            same_user = self._same(user, each[0])
            same_password = self._same(password, each[1])
            found |= same_user & same_password
        return found

    def reload(self) -> None:
        """Read the file again; one that cannot be used is told in the log, and changes nothing."""
        try:
            self._entries = self._read()
        except StartError as error:
            log.error("%s; the users stay as they were", one_line(str(error)))
        else:
            log.warning("-Y %s: loaded again, %d in it", one_line(self._path), len(self._entries))

    def _read(self) -> tuple[Entry, ...]:
        try:
            data = _content(self._path)
        except OSError as error:
            raise StartError(
                f"-Y {self._path}: cannot read the users: {error.strerror}; "
                "give a file of lines user:password"
            ) from None
        try:
            entries = parse(data)
        except ValueError as error:
            raise StartError(f"-Y {self._path}: {error}") from None
        if len(entries) > USERS_MAX:
            log.warning("-Y %s: only the first %d users can log in", one_line(self._path), USERS_MAX)
        return entries[:USERS_MAX]


def parse(data: bytes) -> tuple[Entry, ...]:
    """Return the (user, password) pairs of a file's content. Raises ValueError with what is wrong.

    There are no comments and no blank lines; a password ends where its line does and may have colons.
    """
    lines = data.split(b"\n")
    if lines[-1] == b"":
        lines.pop()
    if not lines:
        raise ValueError("there is no user in it; give a file of lines user:password")
    return tuple(_entry(number, line) for number, line in enumerate(lines, 1))


def _entry(number: int, line: bytes) -> Entry:
    user, colon, password = line.removesuffix(b"\r").partition(b":")
    if not colon or b"\0" in line:
        raise ValueError(f"line {number} is not user:password; comments and blank lines have no place in it")
    if len(line) >= LINE_MAX:
        raise ValueError(f"line {number} is longer than {LINE_MAX - 1} bytes; choose a shorter password")
    return user, password


def _content(path: str) -> bytes:
    # Without O_NONBLOCK a named pipe would hold up the server until somebody writes to it.
    number = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with contextlib.closing(os.fdopen(number, "rb")) as file:
        return file.read(FILE_MAX) or b""
