from collections.abc import Callable

from cacheserver.store.store import Store

class Engine:
    """Executes requests against one store for one worker.

    handler: called with the line (bytes, without CRLF) of every command that is not done in C, on the
    worker's thread; returns the reply with its CRLFs (b"" for none), None to close the connection, or a
    job: a callable that the connection's owner has run elsewhere, with the connection for itself. A job with
    an attribute `refusal` (bytes) is not begun while replies to earlier commands of the same input are to be
    sent; the refusal is the reply then.
    flush_enabled: False refuses flush_all (memcached's -F).
    version: what `version` answers, plain a.b.c.
    """

    store: Store
    handler: Callable[[bytes], bytes | Callable[..., object] | None] | None

    def __init__(self, store: Store, *, flush_enabled: bool = True, version: str = "0.0.0") -> None: ...
    def counters(self) -> dict[str, int]:
        """Requests counted under the names of memcached's `stats`; any thread."""

def store_clock() -> int:
    """Seconds on the store's clock: monotonic, the same for all engines of the process."""
