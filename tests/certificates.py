"""Keys and certificates made for a test run, by the program openssl.

Knows: openssl's command line, the ssl module. Must not know: the server. Everything is for "localhost" and
127.0.0.1, lives in one folder and for ten years; elliptic keys, because they are made in a moment.
"""

from __future__ import annotations

import ssl
import subprocess
from pathlib import Path

from tests.requirements import require_tool

NAMES = "subjectAltName=DNS:localhost,IP:127.0.0.1"
# What clients that go by the letter of RFC 5280 ask for, as Python's do from 3.13 on.
AUTHORITY = "keyUsage=critical,digitalSignature,keyCertSign"
SIGNED = f"{NAMES}\nsubjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n"


class Certificates:
    """Files in `folder`: an authority (ca), a server's pair and a client's pair signed by it, and a pair of a
    stranger's that signs itself. Skips where openssl is not installed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ca = self.sign_itself("ca")
        self.server, self.server_key = self.signed("server")
        self.client, self.client_key = self.signed("client")
        self.stranger = self.sign_itself("stranger")
        self.stranger_key = folder / "stranger.key"

    def sign_itself(self, name: str) -> Path:
        certificate = self.folder / f"{name}.pem"
        how = ("-days", "3650", "-addext", AUTHORITY)
        self.run("req", "-x509", *how, *self.new_key(name), "-out", certificate)
        return certificate

    def signed(self, name: str) -> tuple[Path, Path]:
        """Make a pair signed by the authority; its certificate is told from others by its name."""
        request, certificate = self.folder / f"{name}.csr", self.folder / f"{name}.pem"
        self.run("req", *self.new_key(name), "-out", request)
        extensions = self.folder / "extensions"
        extensions.write_text(SIGNED)
        by = ("-CA", self.ca, "-CAkey", self.folder / "ca.key", "-CAcreateserial")
        how = ("-days", "3650", "-extfile", extensions)
        self.run("x509", "-req", "-in", request, *by, *how, "-out", certificate)
        return certificate, self.folder / f"{name}.key"

    def new_key(self, name: str) -> tuple[str | Path, ...]:
        elliptic = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
        return (*elliptic, "-keyout", self.folder / f"{name}.key", "-subj", f"/CN={name}")

    def run(self, *arguments: str | Path) -> None:
        subprocess.run([require_tool("openssl"), *arguments], check=True, capture_output=True, timeout=30)

    def server_context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.server, self.server_key)
        return context

    def client_context(self, *, certificate: bool = False) -> ssl.SSLContext:
        """What a careful client has; `certificate`: it shows its own."""
        context = ssl.create_default_context(cafile=str(self.ca))
        if certificate:
            context.load_cert_chain(self.client, self.client_key)
        return context
