"""Many connections: the limit of -c, thousands at once, and file descriptors used up.

Knows: sockets, resource limits of processes.
"""

from __future__ import annotations

import contextlib
import resource
import time

from tests.requirements import require_open_files
from tests.servers import serving
from tests.wire import Wire, readable

KIB = 1024


def test_a_client_beyond_the_limit_is_told_and_closed() -> None:
    with serving("-c", "50") as server, contextlib.ExitStack() as stack:
        wires = [stack.enter_context(server.connect()) for _ in range(70)]
        # Connections are accepted in order: when the last one has been refused, all others have been dealt
        # with.
        assert wires[-1].read_line() == b"ERROR Too many open connections"
        refused = readable(wires[:-1], 0)
        for wire in refused:
            assert wire.read_line() == b"ERROR Too many open connections"
            assert wire.read_to_end() == b""
        accepted = [wire for wire in wires[:-1] if wire not in refused]
        # The limit counts what the server itself keeps open as well.
        assert 20 <= len(accepted) <= 50
        for wire in accepted:
            assert wire.ask(b"version\r\n").startswith(b"VERSION ")
        stats = accepted[0].stats()
        assert int(stats["max_connections"]) == 50
        assert int(stats["rejected_connections"]) >= len(refused) + 1
        # A place that becomes free is given to the next client.
        accepted.pop().leave()
        with server.connect() as again:
            assert again.ask(b"version\r\n").startswith(b"VERSION ")


def test_five_thousand_connections_at_once() -> None:
    count = 5000
    require_open_files(count + 200)
    with serving("-c", "6000") as server, contextlib.ExitStack() as stack:
        first = stack.enter_context(server.connect())
        first.set(b"key", b"value")
        before = server.rss()
        wires = [stack.enter_context(server.connect()) for _ in range(count)]
        for wire in wires:
            wire.send(b"get key\r\n")
        for wire in wires:
            assert wire.read_values() == {b"key": b"value"}
        assert int(first.stats()["curr_connections"]) > count
        assert server.rss() - before < count * 20 * KIB
        for number, wire in enumerate(wires):
            wire.send(b"set key%d 0 0 4 noreply\r\n%04d\r\nget key%d\r\n" % (number, number, number))
        for number, wire in enumerate(wires):
            assert wire.read_values() == {b"key%d" % number: b"%04d" % number}


def test_accepting_pauses_without_file_descriptors_and_resumes() -> None:
    with serving() as server, contextlib.ExitStack() as stack:
        witness = stack.enter_context(server.connect())
        witness.set(b"witness", b"untouched")
        limit = server.open_files() + 20
        resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (limit, limit))
        wires: list[Wire] = []
        with contextlib.suppress(TimeoutError):  # a full backlog is fine too, memcached makes it so
            while len(wires) < 60:
                wires.append(stack.enter_context(server.connect(timeout=0.5)))
        for wire in wires:
            wire.send(b"get witness\r\n")
        for wire in wires[:10]:
            assert wire.read_values() == {b"witness": b"untouched"}
        rest = wires[10:]
        answered = readable(rest, 0.5)
        waiting = [wire for wire in rest if wire not in answered]
        assert waiting
        assert witness.get(b"witness") == b"untouched"
        spent = server.cpu_seconds()
        time.sleep(0.5)
        assert server.cpu_seconds() - spent < 0.25, "the server spins on accept"
        assert witness.get(b"witness") == b"untouched"
        for wire in wires:
            if wire not in waiting:
                wire.close()
        for wire in waiting:
            wire.socket.settimeout(5)
            assert wire.read_values() == {b"witness": b"untouched"}
            wire.close()
        with server.connect() as late:
            assert late.get(b"witness") == b"untouched"
        assert int(witness.stats()["listen_disabled_num"]) >= 1
        assert witness.get(b"witness") == b"untouched"
