class Parked:
    """A connection that a job has for itself; made by the reactor. All but hang_up() belongs to the job's
    thread.

    The job ends with resume() or close(), each harmless to repeat; one that is dropped is closed.
    """

    def send(self, data: bytes | bytearray | memoryview, *, patience: float = 20.0) -> None:
        """Send all of `data`, waiting for the client.

        Raises ConnectionError when the client is gone, when it has let this connection's job wait for
        `patience` seconds in all before 64 KiB were taken, in however many calls, or when the server has
        closed the connection. What is slower than 64 KiB in `patience` seconds loses the connection; the
        time between two calls does not count.
        """

    def gone(self, timeout: float = 0.0) -> bool:
        """Whether the client has hung up (or will send no more); waits for that up to `timeout` seconds.

        Of a TLS client only the end of its TCP stream counts: a close_notify without one lies unread among
        what the client sent, and ends the connection once the job gives it back.
        """

    def resume(self) -> None:
        """Give the connection back: the conversation goes on with what the client has sent meanwhile. After a
        send that failed it is closed."""

    def close(self) -> None:
        """Give the connection back to be closed."""

    def hang_up(self) -> None:
        """Shut the connection, so that send() and gone() end; any thread. The job gives it back as ever."""
