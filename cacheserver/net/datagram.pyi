from socket import socket as Socket

from cacheserver.engine import Engine

class Datagrams:
    """Answers what arrives at one bound UDP socket, with one worker's engine. All but counters() belongs to
    that worker's thread.

    A request is one datagram; several commands in it are answered together, by at most 4 datagrams of 1400
    bytes. A larger reply becomes one line that says so: the commands before it in its datagram have been
    executed, those behind it may not have been.
    """

    engine: Engine
    socket: Socket

    def __init__(self, socket: Socket, engine: Engine) -> None: ...
    def fileno(self) -> int:
        """The socket to watch for input; -1 once closed."""

    def on_ready(self) -> bool:
        """Answer what waits, for a bounded time. True: a datagram is half answered; call again after others
        had their turn, whether or not the socket is ready.

        Never raises for a peer's or the network's sake; an exception of a command's handler is logged.
        """

    def close(self) -> None:
        """Close the socket and drop what is half answered; harmless to repeat.

        The event loop must have stopped watching fileno() before.
        """

    def counters(self) -> dict[str, int]:
        """Counts; any thread.

        memcached's names: bytes_read, bytes_written, headers included.
        Own: udp_datagrams (received), udp_dropped (of these: bad header, nothing that is answered),
        udp_too_large (replies that would have taken too many datagrams), udp_unsent (datagrams of replies
        that the system did not take).
        """
