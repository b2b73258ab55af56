from collections.abc import Callable

from cacheserver.prefixes import Prefixes
from cacheserver.store.store import Store

class Engine:
    """Executes requests against one store for one worker.

    handler: called with the line (bytes, without CRLF) of every command that is not done in C, on the
    worker's thread; returns the reply with its CRLFs (b"" for none), None to close the connection, or a
    job: a callable that the connection's owner has run elsewhere, with the connection for itself. A job with
    an attribute `refusal` (bytes) is not begun while replies to earlier commands of the same input are to be
    sent; the refusal is the reply then.
    authenticator: called with the token ("user password") of every login, on the worker's thread; True lets
    the client in. None: clients need not log in. Set it before the first connection: a session that began
    without one needs none.
    flush_enabled: False refuses flush_all (memcached's -F).
    version: what `version` answers, plain a.b.c.
    prefixes: the table that counts by prefix while count_prefixes() has turned that on; None: never.
    """

    store: Store
    prefixes: Prefixes | None
    handler: Callable[[bytes], bytes | Callable[..., object] | None] | None
    authenticator: Callable[[bytes], bool] | None

    def __init__(
        self,
        store: Store,
        *,
        flush_enabled: bool = True,
        version: str = "0.0.0",
        prefixes: Prefixes | None = None,
    ) -> None: ...
    def count_prefixes(self, on: bool) -> None:
        """Turn statistics by prefix on or off; one thread at a time."""

    def counters(self) -> dict[str, int]:
        """Requests counted under the names of memcached's `stats`; any thread."""

def store_clock() -> int:
    """Seconds on the store's clock: monotonic, the same for all engines of the process."""
