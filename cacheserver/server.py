"""The server: startup, serve, drain, shutdown. The only place that composes everything.

Knows: every part's face. Must not know: any part's inside. Owns: all of it, from the sockets to the store.
Threads: a Server belongs to the main thread, whose loop accepts and keeps house; each worker serves on its
own. stop() may be called from any thread.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import uvloop

from cacheserver import PROTOCOL_VERSION, __version__, process
from cacheserver.auth import Users
from cacheserver.buffers import Buffers
from cacheserver.cluster import Cluster
from cacheserver.commands import Commands
from cacheserver.config import Config
from cacheserver.crawler import Crawler
from cacheserver.desk import Desk
from cacheserver.detail import Detail
from cacheserver.engine import Engine, store_clock
from cacheserver.errors import StartError, one_line
from cacheserver.housekeeping import Housekeeping
from cacheserver.net.datagram import Datagrams
from cacheserver.net.listener import Listener
from cacheserver.net.reactor import Reactor
from cacheserver.prefixes import Prefixes
from cacheserver.pressure import Monitor, Recorder, Registration, Status, default_monitor
from cacheserver.relief import Relief
from cacheserver.shrinkers import StoreShrinker
from cacheserver.sockets import Sockets, close_sockets, open_sockets
from cacheserver.store.store import Store
from cacheserver.walk import Walk
from cacheserver.watch import Watch
from cacheserver.watchlog import CONNEVENTS, DELETIONS, EVICTIONS, FETCHERS, MUTATIONS, WatchLog
from cacheserver.worker import Worker

if TYPE_CHECKING:
    from cacheserver.handshakes import Handshakes
    from cacheserver.tls import Certificates

log = logging.getLogger("cacheserver")

MIB = 1 << 20
DEFAULT_PORT = 11211  # of the cluster's servers, where neither --cluster nor -p says
DRAIN_SECONDS = 1.0  # for answering what is in flight; the whole way out takes less than 2 s
JOIN_SECONDS = 0.5
BYTES_PER_SHARD = 128 * MIB  # below this a shard loses more in half-filled pages than its own lock saves
STRANGERS_SHARE = 4  # unfinished handshakes may take this part of the places of -c
CROWD_SECONDS = 0.01  # until it is looked whether some have left
# How long the pressure monitor's thread may wait for the interpreter while workers are busy: in the 5 ms that
# are Python's own, a neighbour that grows by 1 GiB a second takes a tenth of a small reserve.
SWITCH_SECONDS = 0.0005
THREAD_STACK = 512 << 10  # bytes; a huge page does not fit, so a stack costs what it uses
WATCHED = {
    b"fetchers": FETCHERS,
    b"mutations": MUTATIONS,
    b"deletions": DELETIONS,
    b"evictions": EVICTIONS,
    b"connevents": CONNEVENTS,
}


def run(config: Config) -> int:
    """Run one server until a signal or the shutdown command ends it; returns the exit status.

    The order matters: root binds the sockets and writes the process id, then goes; threads come after the
    fork. Raises StartError.
    """
    sys.setswitchinterval(SWITCH_SECONDS)
    process.fill_standard_streams()
    process.end_on_signals()
    users = _users(config)  # maybe only root may read the file
    process.allow_files(config.conn_limit, config.threads, udp_files(config))
    if config.core_dumps:
        process.allow_core_dumps()
    user = process.new_user(config.user)
    certificates = _certificates(config)
    sockets = open_sockets(config, user)
    try:
        daemon = process.daemonize() if config.daemon else None
        with process.pidfile(config.pidfile):
            if user is not None:
                process.become(user)
            server = Server(config, sockets, users=users, certificates=certificates)
            return server.run(lambda: _announce(server, daemon))
    finally:
        close_sockets(sockets.all())


def udp_files(config: Config) -> int:
    """Return the most UDP sockets that a worker has: an address may stand for both families."""
    return 2 * len(config.udp_listen) if config.udp_port else 0


def _announce(server: Server, daemon: process.Daemon | None) -> None:
    with contextlib.suppress(OSError):  # nobody may be able to read it, the server works all the same
        print(one_line(server.summary()), file=sys.stderr, flush=True)
    if daemon is not None:
        config = server.config
        daemon.ready(keep_output=config.verbosity > 0, keep_folder=config.core_dumps)


class Server:
    """Every part of one running server, for commands to look at; `started` is a time.monotonic() value.

    sockets: bound and listening; run() closes them on its way out. monitor: None takes the process's own,
    which other caches may share; any other is started and stopped here. users: who may log in; certificates:
    what sockets that speak TLS begin with; None reads either from the files that the configuration names, if
    any. Raises StartError.
    `reloads`: called one after the other, on the main thread, on SIGHUP; each tells in the log what it did.
    """

    def __init__(
        self,
        config: Config,
        sockets: Sockets,
        monitor: Monitor | None = None,
        *,
        users: Users | None = None,
        certificates: Certificates | None = None,
    ) -> None:
        self.config = config
        self._sockets = sockets
        users = users or _users(config)
        self.certificates = certificates = certificates or _certificates(config)
        self.reloads: list[Callable[[], object]] = [certificates.reload] if certificates else []
        self.started = time.monotonic()
        self.reserved_files = process.reserved_files(config.threads, udp_files(config))
        threading.stack_size(THREAD_STACK)
        self._own_monitor = monitor
        self.monitor = monitor or default_monitor()
        limit = self._first_look().limit
        self.store = _store(config, limit)
        prefixes = Prefixes(config.prefix_delimiter or ":")
        self.engines = [
            Engine(self.store, flush_enabled=config.flush, version=PROTOCOL_VERSION, prefixes=prefixes)
            for _ in range(config.threads)
        ]
        self.detail = Detail(prefixes, self.engines, on=config.prefix_delimiter is not None)
        self.watch = Watch(
            WatchLog(self.engines, self.store, ring_bytes=config.worker_logbuf_size),
            WATCHED,
            allowed=config.watch,
            queue_bytes=config.watcher_logbuf_size,
        )
        self._buffers = Buffers(limit, config.max_item)
        self.desk = Desk()
        self.crawler = Crawler(lambda classes: Walk(self.store, classes), store_clock)
        self.reactors = [
            Reactor(
                engine,
                max_input=self._buffers.received,
                max_output=self._buffers.unsent,
                max_pinned=self._buffers.pinned,
                max_secure=self._buffers.secure,
                idle_timeout=config.idle_timeout,
                on_job=self.desk.take,
            )
            for engine in self.engines
        ]
        by_worker = [
            [Datagrams(sockets_of_host[index], engine) for sockets_of_host in sockets.datagrams]
            for index, engine in enumerate(self.engines)
        ]
        self.datagrams = [each for datagrams in by_worker for each in datagrams]
        self.workers = [
            Worker(f"worker-{index}", reactor, datagrams=datagrams, on_error=self._fail)
            for index, (reactor, datagrams) in enumerate(zip(self.reactors, by_worker, strict=True))
        ]
        self.listener = Listener(
            [each.socket for each in sockets.streams],
            self.reactors,
            max_conns=config.conn_limit,
            refuse=config.maxconns_fast,
            on_pause=self._pause_accepting,
            secure=[index for index, each in enumerate(sockets.streams) if certificates and each.tls],
            on_secure=self._begin_handshake,
            max_unsettled=max(2, config.conn_limit // STRANGERS_SHARE),
            on_crowd=self._let_crowd_wait,
        )
        self.handshakes = self._handshakes(certificates) if certificates else None
        self._loop = uvloop.new_event_loop()
        self._housekeeping = Housekeeping(self._loop, self.store.pay, self._upkeep)
        holders = [Relief(worker) for worker in self.workers]
        self._shrinker = StoreShrinker(
            self.store, holders, lambda: self._buffers.unsent.used, self._housekeeping.pay_soon
        )
        self._handle: Registration | None = None
        self._recorder: Recorder | None = None
        self.cluster = Cluster(config.cluster, config.port if config.port > 0 else DEFAULT_PORT)
        self._failure: BaseException | None = None
        self._stopping = False
        commands = Commands(self)
        for engine in self.engines:
            engine.handler = commands.handle
        if users is not None:
            self._guard(users)

    def run(self, ready: Callable[[], object]) -> int:
        """Serve until stop(); `ready` is called once connections are served. Returns the exit status.

        Raises StartError.
        """
        self._recorder = _recorder(self.config, self.monitor)
        try:
            self._startup()
            ready()
            with self._signals():
                self._serve()
        finally:
            self._drain()
            self._shutdown()
        return 0 if self._failure is None else 1

    def stop(self) -> None:
        """Begin to drain; run() returns soon. Any thread, any number of times."""
        with contextlib.suppress(RuntimeError):  # the loop has ended already
            self._loop.call_soon_threadsafe(self._stop)

    def summary(self) -> str:
        """The line that says what runs where, under which bound, and what is left for the cache."""
        status = self.monitor.status()
        workers = f"{len(self.workers)} worker" + "s" * (len(self.workers) != 1)
        addresses = ", ".join(self._sockets.names(tls=self.certificates is not None))
        return (
            f"cacheserver {__version__} listening on {addresses}, {workers}; "
            f"limit {size_text(status.limit)} from {status.binding}; "
            f"reserve {100 * status.reserve / max(1, status.limit):.0f} %; "
            f"{size_text(self.ceiling)} left for the cache"
        )

    @property
    def ceiling(self) -> int:
        """Bytes the cache may hold now: what the host leaves to it, within the store's address space."""
        return min(self.monitor.status().ceiling, self.store.space)

    def _handshakes(self, certificates: Certificates) -> Handshakes:
        from cacheserver.handshakes import MOST, Handshakes

        workers = itertools.cycle(self.reactors)
        return Handshakes(
            lambda: certificates.context,
            lambda secure: next(workers).adopt_tls(secure, certificates.rest_bytes),
            budget=self._buffers.secure,
            settled=self.listener.settled,
            on_error=self._fail,
            tend=certificates.tend,
            # Half of their places: the others are for those who wait, whom the oldest of these give way.
            most=min(MOST, max(1, self.config.conn_limit // (2 * STRANGERS_SHARE))),
        )

    def _begin_handshake(self, fd: int) -> None:
        assert self.handshakes is not None
        self.handshakes.take(fd)

    # -- startup --

    def _guard(self, users: Users) -> None:
        for engine in self.engines:
            engine.authenticator = users.check
        self.reloads.append(users.reload)

    def _first_look(self) -> Status:
        """Read the host's bounds once, before anything is sized by them."""
        self.monitor.tick(time.monotonic())
        status = self.monitor.status()
        if status.limit <= 0:
            raise StartError("this system does not show how much memory it has; is /proc mounted?")
        return status

    def _startup(self) -> None:
        self._handle = self._shrinker.register(self._own_monitor)
        if self._own_monitor is not None:
            self._own_monitor.start()
        for worker in self.workers:
            worker.start()
        if self.handshakes is not None:
            self.handshakes.start()
        self._housekeeping.start()
        self.cluster.start()
        self._accept()

    def _accept(self) -> None:
        for index, each in enumerate(self.listener.sockets):
            self._loop.add_reader(each.fileno(), self.listener.accept_ready, index)

    # -- serve --

    def _serve(self) -> None:
        if not self._stopping:
            self._loop.run_forever()

    def _pause_accepting(self, seconds: float) -> None:
        """No place, or the system is out of file descriptors: leave the queue alone for a moment."""
        self._ignore_sockets()
        if not self.listener.full:
            log.warning("no file descriptor left: accepting pauses for %d ms", round(seconds * 1000))
        self._loop.call_later(seconds, self._resume_accepting)

    def _resume_accepting(self) -> None:
        if self._stopping:
            return
        seconds = self.listener.resume()
        if seconds:
            self._loop.call_later(seconds, self._resume_accepting)
        else:
            self._accept()

    def _let_crowd_wait(self, index: int) -> None:
        """As many handshakes are open as there may be: leave one socket's queue alone for a moment."""
        self._loop.remove_reader(self.listener.sockets[index].fileno())
        self._loop.call_later(CROWD_SECONDS, self._resume_accepting)

    def _ignore_sockets(self) -> None:
        for each in self.listener.sockets:
            self._loop.remove_reader(each.fileno())

    def _upkeep(self, budget_us: int) -> bool:
        more = self.store.maintain(store_clock(), budget_us)
        self._shrinker.tell_revoked()
        self.store.ceiling = self.ceiling
        self._buffers.follow(self.monitor.status().limit)
        self._buffers.tidy()
        return more

    def _stop(self) -> None:
        self._stopping = True
        self._loop.stop()

    def _fail(self, error: BaseException) -> None:
        """A thread broke: half a server would lose requests silently, so all of it ends."""
        self._failure = error
        self.stop()

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """SIGTERM, SIGINT and SIGUSR1 drain; SIGHUP loads again what can be."""
        self._loop.call_soon(self._take_signals)  # a loop that does not run yet would lose them
        try:
            yield
        finally:
            for number in (*process.ENDING_SIGNALS, signal.SIGHUP):
                self._loop.remove_signal_handler(number)
                # From here on the way out has begun; a second signal must not cut it short with a traceback.
                signal.signal(number, signal.SIG_IGN)

    def _take_signals(self) -> None:
        for number in process.ENDING_SIGNALS:
            self._loop.add_signal_handler(number, self._stop)
        self._loop.add_signal_handler(signal.SIGHUP, self._reload)

    def _reload(self) -> None:
        if not self.reloads:
            log.warning("SIGHUP: there is nothing to load again")
        for reload in self.reloads:
            try:
                reload()
            except Exception:
                log.exception("SIGHUP: something could not be loaded again")

    # -- drain and shutdown --

    def _drain(self) -> None:
        """Accept nothing more, answer what is in flight."""
        self._stopping = True
        self._ignore_sockets()
        self.crawler.stop()
        self.listener.stop()
        close_sockets(self.listener.sockets)  # a client that comes now is refused at once instead of waiting
        self.watch.stop()
        deadline = time.monotonic() + DRAIN_SECONDS
        if self.handshakes is not None and not self.handshakes.stop(JOIN_SECONDS):
            log.error("the handshakes do not end")
        for worker in self.workers:
            worker.drain(deadline)
        for worker in self.workers:
            if worker.alive and not worker.join(max(0.0, deadline - time.monotonic()) + JOIN_SECONDS):
                log.error("%s does not end", worker.name)
        self.desk.join(JOIN_SECONDS)

    def _shutdown(self) -> None:
        self.cluster.stop()
        self._housekeeping.stop()
        if self._handle is not None:
            self._shrinker.unregister(self._own_monitor, self._handle)
        if self._own_monitor is not None:
            self._own_monitor.stop()
        if self._recorder is not None:
            self._recorder.close()
        self._loop.close()


def _users(config: Config) -> Users | None:
    return None if config.auth_file is None else Users(config.auth_file)


def _certificates(config: Config) -> Certificates | None:
    """Load what TLS takes, only where it is on: 200 KiB. All of it now, while root may still read it."""
    if not config.tls:
        return None
    from cacheserver import handshakes, tls  # noqa: F401

    return tls.Certificates(config)


def _recorder(config: Config, monitor: Monitor) -> Recorder | None:
    if config.record is None:
        return None
    try:
        return Recorder(monitor, config.record)
    except (OSError, ValueError) as error:
        raise StartError(f"--record {config.record}: {getattr(error, 'strerror', None) or error}") from None


def _store(config: Config, limit: int) -> Store:
    try:
        return Store(
            shards=shard_count(config.threads, limit),
            max_item=config.max_item,
            evictions=config.evictions,
            cas=config.cas,
        )
    except MemoryError as error:
        raise StartError(str(error)) from None


def shard_count(workers: int, limit: int) -> int:
    """Return into how many shards a store under `limit` bytes is split: a power of two, 1 for a worker."""
    wanted = 1 if workers == 1 else 1 << (2 * workers - 1).bit_length()
    room = max(1, limit // BYTES_PER_SHARD)
    return min(wanted, 1 << (room.bit_length() - 1), 64)


def size_text(size: int) -> str:
    """Write a number of bytes as people read it: 256.0 MiB, 1.5 GiB."""
    return f"{size / (1 << 30):.1f} GiB" if size >= 1 << 30 else f"{size / MIB:.1f} MiB"
