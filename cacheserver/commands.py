"""The rare commands: a table from the first word to its handler. Everything not in it is answered `ERROR`.

Knows: which word is whose. Must not know: any command's grammar, how any part works.
Threads: handle() may be called from every worker at once.
"""

import time
from collections.abc import Callable

from cacheserver.control import Control
from cacheserver.desk import Job
from cacheserver.lines import ERROR
from cacheserver.listings import Listings
from cacheserver.parts import ServerParts
from cacheserver.reports import Reports
from cacheserver.steering import Steering

Handler = Callable[[list[bytes]], bytes | Job | None]


class Commands:
    """The handlers, bound to one server.

    monotonic, wall: clocks in seconds, for tests to replace.
    """

    def __init__(
        self,
        server: ServerParts,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        control = Control(server)
        classes, dumps = server.store.class_count, server.config.dumps
        steering = Steering(server.crawler, server.store.reassign, classes, dumps)
        listings = Listings(server.crawler, classes, dumps)
        kinds = {b"detail": server.detail.command, **listings.kinds}

        def settings() -> dict[str, str]:
            parts = (control, steering, listings, server.detail)
            return {name: value for part in parts for name, value in part.settings().items()}

        reports = Reports(server, settings, kinds, monotonic=monotonic, wall=wall)
        self._table: dict[bytes, Handler] = {
            **steering.handlers,
            b"stats": reports.answer,
            b"verbosity": control.verbosity,
            b"cache_memlimit": control.cache_memlimit,
            b"shutdown": control.shutdown,
            b"refresh_certs": control.refresh_certs,
            b"watch": server.watch.command,
            b"config": lambda arguments: server.cluster.answer(arguments),
        }

    def handle(self, line: bytes) -> bytes | Job | None:
        """Return the reply to one command line (without its CRLF); b"": none; None: close the connection.

        A job is what takes long: it is for the desk, which sends its reply.
        """
        word, *arguments = [token for token in line.split(b" ") if token] or [b""]
        handler = self._table.get(word)
        return ERROR if handler is None else handler(arguments)

    __call__ = handle
