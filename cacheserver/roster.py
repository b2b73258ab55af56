"""`stats conns`: who is connected. Each worker is asked on its own thread, a few connections at a time.

Knows: workers and what holds their connections, as small protocols; the form of the reply. Must not know:
sockets, requests. Owns nothing: the reply is sent piece by piece.
Threads: the list is made in a job's thread. A connection that comes or goes meanwhile may be missing.
"""

import logging
import socket
from collections.abc import Iterator, Sequence
from concurrent.futures import Future

from cacheserver import stats
from cacheserver.desk import Job, JobOf, Kind, Stream
from cacheserver.lines import END
from cacheserver.parts import Bound, Listening, Seat, Thread

log = logging.getLogger("cacheserver.roster")

SLICE = 64  # connections asked for at once: a fraction of a millisecond of a worker's time
PATIENCE = 5.0  # seconds for a worker to answer; one that takes longer is left out


def roster(listener: Listening, workers: Sequence[Thread], uptime: int) -> Job:
    """Return the job that sends the list. uptime: seconds the sockets have been listening."""

    def send(stream: Stream) -> None:
        stream.send(stats.lines(_listening(listener.sockets, uptime)))
        for worker in workers:
            first = 0
            while seats := _ask(worker, first):
                stream.send(stats.lines(_rows(seats)))
                first += len(seats)
                if len(seats) < SLICE:
                    break
        stream.send(END)

    return JobOf(Kind.CONNECTIONS, send)


def address(family: int, name: object) -> str:
    """Write a socket's own address as `stats conns` has it: tcp:host:port, tcp6:[host]:port, unix:path."""
    if family == socket.AF_INET6 and isinstance(name, tuple):
        return f"tcp6:[{name[0]}]:{name[1]}"
    if isinstance(name, tuple):
        return f"tcp:{name[0]}:{name[1]}"
    return f"unix:{name}"


def _listening(sockets: Sequence[Bound], uptime: int) -> Iterator[stats.Row]:
    for each in sockets:
        try:
            text = address(getattr(each, "family", 0), each.getsockname())
        except OSError:  # closed by now: the server drains
            continue
        number = each.fileno()
        yield f"{number}:addr", text
        yield f"{number}:state", "conn_listening"
        yield f"{number}:secs_since_last_cmd", uptime


def _rows(seats: Sequence[Seat]) -> Iterator[stats.Row]:
    for seat in seats:
        yield f"{seat.fd}:addr", seat.peer
        yield f"{seat.fd}:listen_addr", seat.local
        yield f"{seat.fd}:state", seat.state
        yield f"{seat.fd}:secs_since_last_cmd", seat.idle


def _ask(worker: Thread, first: int) -> list[Seat]:
    """Return the worker's connections from number `first` on, SLICE at most; none where it has ended."""
    answer: Future[list[Seat]] = Future()

    def look() -> None:
        try:
            answer.set_result([Seat(*each) for each in worker.reactor.seats(first, SLICE)])
        except Exception as error:
            answer.set_exception(error)

    if not worker.call_soon_threadsafe(look):
        return []
    try:
        return answer.result(PATIENCE)
    except TimeoutError:
        log.warning("a worker does not answer: its connections are missing in stats conns")
        return []
