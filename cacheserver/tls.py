"""Certificates: the files the operator names in, the context that new TLS connections begin with out.

Knows: the ssl module, Config's ssl_* knobs. Must not know: sockets, handshakes.
Owns: one ssl.SSLContext at a time, and the bytes of the files it was made of: another like it is made of them
and not of the files, which may be new by then and not meant yet. One that was replaced lives on in the
connections that began with it.
Threads: all of it may be called from any.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import ssl
import stat
import threading
import time
import warnings
import weakref
from collections.abc import Callable, Iterator
from typing import NamedTuple, NoReturn

from cacheserver.config import Config
from cacheserver.errors import StartError, one_line

log = logging.getLogger("cacheserver.tls")

VERSIONS = (ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1, ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)
VERIFY = (ssl.CERT_NONE, ssl.CERT_OPTIONAL, ssl.CERT_REQUIRED, ssl.CERT_REQUIRED)

# Bytes of the heap that OpenSSL 3.0 and the ssl module hold for a connection at rest: 17.0 KiB measured over
# 500 connections that sent short requests (what longer ones add, net/transport counts); a client's
# certificate adds PEER_BYTES.
REST_BYTES = 18 << 10
PEER_BYTES = 8 << 10
# Clients without tickets leave a session of about 1 KiB each in the context, 20480 at most; nothing in the
# ssl module sets another bound. Another context begins without any, but each may live as long as a client
# wants to; where there are too many, the newest one keeps what it gets.
SESSIONS_MAX = 1024
CONTEXTS_MAX = 8

FILE_MAX = 4 << 20  # bytes; the certificates of all authorities there are take 0.2 MiB
# Seconds that a file must have been left alone for its time of change to tell that from a later change.
SETTLED = 0.1
CERTIFICATE = re.compile(rb"-----BEGIN (X509 |TRUSTED )?CERTIFICATE-----")
KEY = re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----")
GIVE_CERTIFICATE = "give a PEM file, which has a line -----BEGIN CERTIFICATE-----"
GIVE_KEY = "give a PEM file, which has a line -----BEGIN PRIVATE KEY-----"
TOO_WEAK = ("EE_KEY_TOO_SMALL", "CA_KEY_TOO_SMALL", "CA_MD_TOO_WEAK")  # for OpenSSL's security level


Stamp = tuple[int, ...]


class _Files(NamedTuple):
    """What stands in the operator's files; None: no such file is named."""

    chain: bytes
    key: bytes | None
    authorities: bytes | None


class _Loaded(NamedTuple):
    """A context, what it is made of, and what the system said of each file then; None: a later change might
    look the same."""

    context: ssl.SSLContext
    files: _Files
    stamps: tuple[Stamp, ...] | None


class Certificates:
    """What `config` says of TLS, loaded. Raises StartError where the files do not allow it."""

    def __init__(
        self,
        config: Config,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._config = config
        self._clock = clock
        self._wall = wall
        self._refreshing = threading.Lock()
        self._changing = threading.Lock()  # held for a moment only
        self._made: weakref.WeakSet[ssl.SSLContext] = weakref.WeakSet()
        files, stamps = _read_all(config, wall())
        self._loaded = _Loaded(self._new_context(files), files, stamps)
        self._loaded_at = clock()

    @property
    def context(self) -> ssl.SSLContext:
        """What a new connection begins with."""
        return self._loaded.context

    @property
    def rest_bytes(self) -> int:
        """Bytes that a connection at rest costs beside its buffers."""
        return REST_BYTES + (PEER_BYTES if self._config.ssl_verify_mode else 0)

    @property
    def age(self) -> int:
        """Whole seconds since the files were loaded, or seen to be what is loaded."""
        return int(self._clock() - self._loaded_at)

    def confirm(self) -> bool:
        """Whether the files are what is loaded, as far as can be told without opening them."""
        stamps = self._loaded.stamps
        try:
            if stamps is None or stamps != tuple(_stamp(os.stat(path)) for path in _paths(self._config)):
                return False
        except OSError:
            return False
        self._loaded_at = self._clock()
        return True

    def refresh(self) -> str:
        """Load the files again, for connections that begin from now on, unless they still say the same.

        Returns "", or what is wrong with them; then the old ones stay in force.
        """
        with self._refreshing:
            try:
                files, stamps = _read_all(self._config, self._wall())
                same = files == self._loaded.files
                new = None if same else _Loaded(self._new_context(files), files, stamps)
            except StartError as error:
                return one_line(str(error))
            with self._changing:
                self._loaded = new or self._loaded._replace(stamps=stamps)
            self._loaded_at = self._clock()
        return ""

    def reload(self) -> None:
        """refresh(), and log how it went."""
        before = self._loaded.files
        why = self.refresh()
        if why:
            log.error("the certificates in force stay: %s", why)
        elif self._loaded.files is before:
            log.warning("the TLS certificates have not changed")
        else:
            log.warning("the TLS certificates were loaded again")

    def tend(self) -> None:
        """Bound the sessions that clients leave in the context; call it now and then."""
        loaded = self._loaded
        if loaded.context.session_stats()["number"] <= SESSIONS_MAX or len(self._made) >= CONTEXTS_MAX:
            return
        try:
            context = self._new_context(loaded.files)
        except (StartError, MemoryError) as error:
            log.error("the sessions of TLS clients could not be dropped: %s", one_line(str(error)))
            return
        with self._changing:
            if self._loaded is loaded:
                self._loaded = loaded._replace(context=context)

    def _new_context(self, files: _Files) -> ssl.SSLContext:
        context = _context(self._config, files)
        self._made.add(context)
        return context


def _paths(config: Config) -> list[str]:
    paths = (config.ssl_chain_cert, config.ssl_key, config.ssl_ca_cert)
    return [path for path in paths if path is not None]


def _read_all(config: Config, now: float) -> tuple[_Files, tuple[Stamp, ...] | None]:
    """Read the files; now: a time.time() value. Raises StartError."""
    if config.ssl_chain_cert is None:
        raise StartError("-Z needs a certificate; give its file, PEM, by -o ssl_chain_cert=<file>")
    if config.ssl_ca_cert is None and config.ssl_verify_mode:
        raise StartError(
            f"-o ssl_verify_mode={config.ssl_verify_mode} needs the certificates of those who may sign; give "
            "their file, PEM, by -o ssl_ca_cert=<file>"
        )
    found: list[bytes | None] = []
    stamps: list[Stamp] = []
    settled = True
    for name in ("ssl_chain_cert", "ssl_key", "ssl_ca_cert"):
        path = getattr(config, name)
        if path is None:
            found.append(None)
            continue
        data, status = _read(name, path)
        found.append(data)
        stamps.append(_stamp(status))
        settled = settled and max(status.st_mtime, status.st_ctime) < now - SETTLED
    chain, key, authorities = found
    assert chain is not None
    return _Files(chain, key, authorities), tuple(stamps) if settled else None


def _stamp(status: os.stat_result) -> Stamp:
    """What changes when a file does."""
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _read(name: str, path: str) -> tuple[bytes, os.stat_result]:
    """Return what stands in a file, and what the system said of it before. Raises StartError."""
    try:
        # Anything but a file might make who reads it wait for ever, a pipe even who opens it.
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                raise StartError(f"-o {name}={path}: that is no file, but a folder or device; give a file")
            with open(fd, "rb", closefd=False) as file:
                data = file.read(FILE_MAX + 1)
        finally:
            os.close(fd)
    except OSError as error:
        raise StartError(
            f"-o {name}={path}: cannot read it: {error.strerror}; check the path and who may read it"
        ) from None
    if len(data) > FILE_MAX:
        raise StartError(f"-o {name}={path}: it has more than {FILE_MAX >> 20} MiB; give a PEM file")
    return data, status


def _context(config: Config, files: _Files) -> ssl.SSLContext:
    """Make a context of what the files say. Raises StartError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION | ssl.OP_CIPHER_SERVER_PREFERENCE
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # who asks for TLS 1.0 knows how old it is
        try:
            context.minimum_version = VERSIONS[config.ssl_min_version]
        except ValueError:
            raise StartError(
                f"-o ssl_min_version={config.ssl_min_version}: this OpenSSL does not have that version; "
                "give a later one"
            ) from None
    if config.ssl_ciphers is not None:
        try:
            context.set_ciphers(config.ssl_ciphers)
        except ssl.SSLError:
            raise StartError(
                f"-o ssl_ciphers={config.ssl_ciphers}: OpenSSL knows no such cipher; "
                "`openssl ciphers` lists them"
            ) from None
    assert config.ssl_chain_cert is not None
    try:
        with contextlib.ExitStack() as opened:
            _load_pair(context, config.ssl_chain_cert, config.ssl_key, files, opened)
            context.verify_mode = VERIFY[config.ssl_verify_mode]
            if config.ssl_ca_cert is not None:
                assert files.authorities is not None
                _load_authorities(context, config.ssl_ca_cert, files.authorities, opened)
    except OSError as error:  # no descriptor, no memory: nothing the files can help
        raise StartError(f"cannot load the TLS certificates: {error.strerror or error}; try again") from None
    return context


def _load_pair(
    context: ssl.SSLContext, chain: str, key: str | None, files: _Files, opened: contextlib.ExitStack
) -> None:
    if not CERTIFICATE.search(files.chain):
        raise StartError(f"-o ssl_chain_cert={chain}: no certificate in PEM form in it; {GIVE_CERTIFICATE}")
    if key is None and not KEY.search(files.chain):
        raise StartError(
            f"-o ssl_chain_cert={chain}: no private key in it; give the key's file, PEM, by -o ssl_key=<file>"
        )
    if files.key is not None and not KEY.search(files.key):
        raise StartError(f"-o ssl_key={key}: no private key in PEM form in it; {GIVE_KEY}")

    def password() -> NoReturn:
        # Without this, OpenSSL would ask on the terminal, and a daemon would hang.
        raise StartError(
            f"-o ssl_key={key or chain}: the key is locked by a password; give one without, as by "
            "openssl pkey -in <file> -out <new file>"
        )

    chain_copy = opened.enter_context(_copy(files.chain))
    key_copy = None if files.key is None else opened.enter_context(_copy(files.key))
    try:
        context.load_cert_chain(chain_copy, key_copy, password)
    except ssl.SSLError as error:
        raise StartError(_wrong_pair(error, chain, key, chain_copy)) from None


def _wrong_pair(error: ssl.SSLError, chain: str, key: str | None, chain_copy: str) -> str:
    if error.reason == "KEY_VALUES_MISMATCH":
        return (
            f"-o ssl_key={key or chain}: the key does not belong to the certificate in {chain}; give the one "
            "that the certificate was made for"
        )
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(chain_copy)
    except ssl.SSLError:
        return f"-o ssl_chain_cert={chain}: no usable certificate in it{_words(error)}; {GIVE_CERTIFICATE}"
    if error.reason in TOO_WEAK:
        return f"-o ssl_chain_cert={chain}: OpenSSL refuses it{_words(error)}; give a stronger one"
    return f"-o ssl_key={key or chain}: no usable private key in it{_words(error)}; {GIVE_KEY}"


def _load_authorities(
    context: ssl.SSLContext, path: str, authorities: bytes, opened: contextlib.ExitStack
) -> None:
    if not CERTIFICATE.search(authorities):
        raise StartError(f"-o ssl_ca_cert={path}: no certificate in PEM form in it; {GIVE_CERTIFICATE}")
    try:
        context.load_verify_locations(opened.enter_context(_copy(authorities)))
    except ssl.SSLError as error:
        raise StartError(
            f"-o ssl_ca_cert={path}: no usable certificate in it{_words(error)}; {GIVE_CERTIFICATE}"
        ) from None


@contextlib.contextmanager
def _copy(data: bytes) -> Iterator[str]:
    """The path of a file that holds `data`, in memory only; the ssl module takes a pair from nothing else."""
    fd = os.memfd_create("pem", os.MFD_CLOEXEC)
    try:
        with open(fd, "wb", closefd=False) as file:
            file.write(data)
        yield f"/proc/self/fd/{fd}"
    finally:
        os.close(fd)


def _words(error: ssl.SSLError) -> str:
    """OpenSSL's reason as people read it, in brackets, where it has one."""
    return f" ({error.reason.lower().replace('_', ' ')})" if error.reason else ""
