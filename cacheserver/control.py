"""The commands that would change the server: verbosity, cache_memlimit, refresh_certs, shutdown.

Knows: their grammar, the log's levels. Must not know: how any part works.
Threads: any worker's, several at once; what they change are single references.
"""

import logging

from cacheserver.desk import Job, Stream
from cacheserver.lines import BAD_FORMAT, ERROR, OK, reply, whole_number
from cacheserver.parts import ServerParts

LEVELS = (logging.WARNING, logging.INFO, logging.DEBUG)
MEMLIMIT_MIN = 8  # MB
MEMLIMIT_MAX = 1_000_000_000  # MB: more is taken for bytes given by mistake


class Control:
    """The handlers, bound to one server."""

    def __init__(self, server: ServerParts) -> None:
        self._server = server
        self._shown: dict[str, str] = {}

    def settings(self) -> dict[str, str]:
        """Return what has been set, by the names of `stats settings`."""
        return dict(self._shown)

    def verbosity(self, arguments: list[bytes]) -> bytes:
        """verbosity <level> [noreply]: what is logged from now on, as by -v and -vv."""
        level = whole_number(arguments)
        if level is None:
            return reply(BAD_FORMAT, arguments)
        level = min(level, len(LEVELS) - 1)
        self._shown["verbosity"] = str(level)
        logging.getLogger("cacheserver").setLevel(LEVELS[level])
        return reply(OK, arguments)

    def cache_memlimit(self, arguments: list[bytes]) -> bytes:
        """cache_memlimit <megabytes> [noreply]: answered as memcached's grammar has it, and nothing changes.

        This cache has no size to set: it has what its host leaves it. OK says that the number would do.
        """
        limit = whole_number(arguments)
        if limit is None:
            return reply(ERROR, arguments)
        if limit < MEMLIMIT_MIN:
            return reply(b"MEMLIMIT_TOO_SMALL cannot set maxbytes to less than 8m\r\n", arguments)
        if limit > MEMLIMIT_MAX:
            return reply(b"MEMLIMIT_ADJUST_FAILED input value is megabytes not bytes\r\n", arguments)
        return reply(OK, arguments)

    def refresh_certs(self, _arguments: list[bytes]) -> bytes | Job:
        """refresh_certs: load the certificates again, or say what is wrong with them: `Error`, as memcached
        spells it. Where the files look unchanged there is nothing to do."""
        certificates = self._server.certificates
        if certificates is None:
            return b"Error TLS not enabled\r\n"
        if certificates.confirm():
            return OK

        def load(stream: Stream) -> None:
            why = certificates.refresh()
            stream.send(f"Error {why}\r\n".encode() if why else OK)

        return load

    def shutdown(self, arguments: list[bytes]) -> bytes | None:
        """shutdown [graceful]: the server drains and ends with status 0; only under -A."""
        if not self._server.config.enable_shutdown:
            return b"SERVER_ERROR: shutdown not enabled\r\n"
        if arguments not in ([], [b"graceful"]):
            return b"CLIENT_ERROR invalid shutdown mode\r\n"
        self._server.stop()
        return None
