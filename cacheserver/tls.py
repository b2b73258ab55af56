"""Certificates: the files the operator names in, the context that new TLS connections begin with out.

Knows: the ssl module, Config's ssl_* knobs. Must not know: sockets, handshakes.
Owns: one ssl.SSLContext at a time. One that was replaced lives on in the connections that began with it.
Threads: all of it may be called from any.
"""

from __future__ import annotations

import logging
import os
import ssl
import stat
import threading
import time
import warnings
from collections.abc import Callable
from typing import NoReturn

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
# ssl module sets another bound.
SESSIONS_MAX = 1024


class Certificates:
    """What `config` says of TLS, loaded. Raises StartError where the files do not allow it."""

    def __init__(self, config: Config, clock: Callable[[], float] = time.monotonic) -> None:
        self._config = config
        self._clock = clock
        self._lock = threading.Lock()
        self._context = _context(config)
        self._loaded = clock()

    @property
    def context(self) -> ssl.SSLContext:
        """What a new connection begins with."""
        return self._context

    @property
    def rest_bytes(self) -> int:
        """Bytes that a connection at rest costs beside its buffers."""
        return REST_BYTES + (PEER_BYTES if self._config.ssl_verify_mode else 0)

    @property
    def age(self) -> int:
        """Whole seconds since the files were loaded."""
        return int(self._clock() - self._loaded)

    def refresh(self) -> str:
        """Load the files again, for connections that begin from now on.

        Returns "", or what is wrong with them; then the old ones stay in force.
        """
        with self._lock:
            try:
                self._context = _context(self._config)
            except StartError as error:
                return one_line(str(error))
            self._loaded = self._clock()
        return ""

    def reload(self) -> None:
        """refresh(), and log how it went."""
        why = self.refresh()
        if why:
            log.error("the certificates in force stay: %s", why)
        else:
            log.warning("the TLS certificates were loaded again")

    def tend(self) -> None:
        """Bound the sessions that clients leave in the context; call it now and then."""
        context = self._context
        if context.session_stats()["number"] > SESSIONS_MAX and context is self._context:
            self.refresh()


def _context(config: Config) -> ssl.SSLContext:
    """Make a context of the files as they are now. Raises StartError."""
    if config.ssl_chain_cert is None:
        raise StartError("-Z needs a certificate; give its file, PEM, by -o ssl_chain_cert=<file>")
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
    _load_pair(context, config.ssl_chain_cert, config.ssl_key)
    context.verify_mode = VERIFY[config.ssl_verify_mode]
    if config.ssl_ca_cert is not None:
        _load_authorities(context, config.ssl_ca_cert)
    elif config.ssl_verify_mode:
        raise StartError(
            f"-o ssl_verify_mode={config.ssl_verify_mode} needs the certificates of those who may sign; give "
            "their file, PEM, by -o ssl_ca_cert=<file>"
        )
    return context


def _load_pair(context: ssl.SSLContext, chain: str, key: str | None) -> None:
    _readable("ssl_chain_cert", chain)
    if key is not None:
        _readable("ssl_key", key)

    def password() -> NoReturn:
        # Without this, OpenSSL would ask on the terminal, and a daemon would hang.
        raise StartError(
            f"-o ssl_key={key or chain}: the key is locked by a password; give one without, as by "
            "openssl pkey -in <file> -out <new file>"
        )

    try:
        context.load_cert_chain(chain, key, password)
    except (ssl.SSLError, OSError) as error:
        raise StartError(_wrong_pair(error, chain, key)) from None


def _wrong_pair(error: OSError, chain: str, key: str | None) -> str:
    reason = getattr(error, "reason", None) or str(error)
    if reason == "KEY_VALUES_MISMATCH":
        return (
            f"-o ssl_key={key or chain}: the key does not belong to the certificate in {chain}; give the one "
            "that the certificate was made for"
        )
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(chain)
    except (ssl.SSLError, OSError):
        return f"-o ssl_chain_cert={chain}: no usable certificate in it ({_words(reason)}); give a PEM file"
    if key is None:
        return (
            f"-o ssl_chain_cert={chain}: no private key in it; give the key's file, PEM, by -o ssl_key=<file>"
        )
    return f"-o ssl_key={key}: no usable private key in it ({_words(reason)}); give a PEM file"


def _load_authorities(context: ssl.SSLContext, path: str) -> None:
    _readable("ssl_ca_cert", path)
    try:
        context.load_verify_locations(path)
    except (ssl.SSLError, OSError) as error:
        reason = getattr(error, "reason", None) or str(error)
        raise StartError(
            f"-o ssl_ca_cert={path}: no usable certificate in it ({_words(reason)}); give a PEM file"
        ) from None


def _readable(name: str, path: str) -> None:
    """Raise StartError unless `path` is a file that can be read; the ssl module does not say which is not."""
    try:
        # Anything else might make a server that loads it again wait for ever.
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise StartError(f"-o {name}={path}: that is no file, but a folder or device; give a file")
        with open(path, "rb"):
            pass
    except OSError as error:
        raise StartError(
            f"-o {name}={path}: cannot read it: {error.strerror}; check the path and who may read it"
        ) from None


def _words(reason: str) -> str:
    """OpenSSL's reason as people read it."""
    return reason.lower().replace("_", " ")
