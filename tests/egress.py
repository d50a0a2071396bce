"""What stands between the service and other services: a private CA, and a proxy for CONNECT."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from tests import pems


class Authority:
    """A private certification authority; `bundle` is the file with its certificate."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "private CA")])
        own = self._builder(self._name, self._key.public_key())
        own = own.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        self.bundle = folder / "ca.pem"
        signed = own.sign(self._key, hashes.SHA256())
        self.bundle.write_bytes("# Société\n".encode() + signed.public_bytes(Encoding.PEM))

    def _builder(self, name: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        serial = x509.random_serial_number()
        return (
            x509.CertificateBuilder(self._name, name, key, serial)
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
        )

    def server(self, *hosts: str) -> ssl.SSLContext:
        """Return the TLS context of a server with these names."""
        key = ec.generate_private_key(ec.SECP256R1())
        names = x509.SubjectAlternativeName([x509.DNSName(each) for each in hosts])
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, hosts[0])])
        certificate = self._builder(subject, key.public_key()).add_extension(names, critical=False)
        path = self._folder / f"{hosts[0]}.pem"
        signed = certificate.sign(self._key, hashes.SHA256())
        path.write_bytes(pems.private(key).encode() + signed.public_bytes(Encoding.PEM))
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(path)
        return context


@asynccontextmanager
async def serving_tls(app: web.Application, context: ssl.SSLContext) -> AsyncIterator[int]:
    """Serve an application over TLS on loopback; yield the port."""
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


@dataclass(slots=True)
class ConnectProxy:
    """An HTTP proxy: it connects to `routes`, a port of loopback for each `host:port`.

    `answer` replaces its answer to CONNECT; `heads` has the requests.
    """

    routes: dict[str, int] = field(default_factory=dict)
    answer: bytes = b"HTTP/1.1 200 Connection established\r\n\r\n"
    heads: list[str] = field(default_factory=list)
    port: int = 0

    @property
    def targets(self) -> list[str]:
        """What it was asked to connect to."""
        return [head.split(" ")[1] for head in self.heads]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            self.heads.append(head)
            port = self.routes.get(head.split(" ")[1])
            writer.write(self.answer if port else b"HTTP/1.1 502 Bad Gateway\r\n\r\n")
            if port and self.answer.startswith(b"HTTP/1.1 200"):
                upstream, to_upstream = await asyncio.open_connection("127.0.0.1", port)
                await asyncio.gather(_copy(reader, to_upstream), _copy(upstream, writer))
        writer.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


@asynccontextmanager
async def proxying(**routes: int) -> AsyncIterator[ConnectProxy]:
    """Run a proxy; `routes` gives the ports by the first label of each host under `.test`."""
    proxy = ConnectProxy({f"{host}.test:443": port for host, port in routes.items()})
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
