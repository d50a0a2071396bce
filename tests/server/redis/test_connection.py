"""Connections to Redis: each form of `REDIS_URL`, TLS, and endpoints in cluster mode."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from rig.redis_server import RedisServer, free_port
from rig.waiting import eventually
from server.policies.pause import PAUSE_KEY
from server.redis.connection import (
    RedisConnectionLost,
    RedisFailure,
    RedisRejection,
    RedisReplyError,
    describe,
    execute_once,
    open_connection,
)
from tests.revocation_keys import patient_key, token_key

pytestmark = pytest.mark.redis

StartRedis = Callable[..., Awaitable[RedisServer]]


@pytest.fixture
async def start_redis(redis_server: RedisServer, tmp_path: Path) -> AsyncIterator[StartRedis]:
    """Start another redis-server, with options of its command line."""
    async with AsyncExitStack() as stack:

        async def start(**options: str) -> RedisServer:
            folder = tmp_path / str(free_port())
            folder.mkdir()
            server = await RedisServer(folder, **options).start()
            stack.push_async_callback(server.stop)
            return server

        yield start


# --- addresses ----------------------------------------------------------------------------------


@pytest.mark.parametrize("address", ["{url}/3", "{url}?db=3", "unix://{socket}?db=3"])
async def test_database_is_that_of_the_address(
    start_redis: StartRedis, tmp_path: Path, address: str
) -> None:
    server = await start_redis(unixsocket=str(tmp_path / "redis.sock"))
    url = address.format(url=server.url, socket=tmp_path / "redis.sock")
    await execute_once(url, b"SET", b"greeting", b"hello")
    assert await server.execute("GET", "greeting", database=3) == "hello"
    assert await execute_once(server.url, b"GET", b"greeting") is None


@pytest.mark.parametrize(
    ("user_info", "accepted"),
    [
        ("u%2Fser:p%40ss%3A%2F@", True),
        (":only%20word@", True),
        ("u%2Fser:wrong@", False),
        ("other:p%40ss%3A%2F@", False),
    ],
)
async def test_credentials_are_percent_decoded(
    redis_server: RedisServer, user_info: str, *, accepted: bool
) -> None:
    await redis_server.execute("ACL", "SETUSER", "u/ser", "on", ">p@ss:/", "+@all", "~*")
    await redis_server.set_password("only word")
    url = redis_server.url.replace("://", f"://{user_info}")
    if accepted:
        assert await execute_once(url, b"ECHO", b"hello") == b"hello"
    else:
        with pytest.raises(RedisRejection):
            await execute_once(url, b"ECHO", b"hello")


async def test_options_of_the_address_do_not_replace_those_of_the_service(
    redis_server: RedisServer,
) -> None:
    url = f"{redis_server.url}?noreply=true&decode_responses=true&max_connections=0&timeout=0"
    assert await execute_once(url, b"ECHO", b"hello") == b"hello"


async def test_database_that_does_not_exist_is_a_failure(redis_server: RedisServer) -> None:
    with pytest.raises(RedisReplyError, match="out of range"):
        await execute_once(f"{redis_server.url}/99", b"ECHO", b"hello")


def test_failure_is_described_by_its_first_cause_without_text_of_redis() -> None:
    lost = RedisConnectionLost("10.0.0.1:6379")
    lost.__cause__ = ConnectionRefusedError()
    assert describe(lost) == "ConnectionRefusedError"
    assert describe(RedisReplyError("OOM command not allowed")) == "OOM"
    assert describe(RedisReplyError("user x has no permission")) == "RedisReplyError"
    assert describe(RedisReplyError("MOVED 1 10.0.0.1:6379")) == "MOVED"


# --- TLS ----------------------------------------------------------------------------------------


def make_certificate(folder: Path) -> Path:
    """Write a self-signed certificate of 127.0.0.1 and its key to a file."""
    key = ec.generate_private_key(ec.SECP256R1())
    addresses = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "redis")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(addresses, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    key_format = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    path = folder / "redis.pem"
    path.write_bytes(certificate.public_bytes(pem) + key.private_bytes(pem, *key_format))
    return path


@pytest.mark.parametrize(
    ("host", "query", "failure"),
    [
        ("127.0.0.1", "?ssl_ca_certs={file}", None),
        ("127.0.0.1", "", "SSLCertVerificationError"),
        ("localhost", "?ssl_ca_certs={file}", "SSLCertVerificationError"),
        ("localhost", "?ssl_ca_certs={file}&ssl_check_hostname=false", None),
        ("localhost", "?ssl_cert_reqs=none", None),
    ],
)
async def test_certificate_and_host_name_are_verified(
    start_redis: StartRedis, tmp_path: Path, host: str, query: str, failure: str | None
) -> None:
    file = str(make_certificate(tmp_path))
    options = {"tls-port": str(port := free_port()), "tls-auth-clients": "no"}
    await start_redis(
        **options, **{"tls-cert-file": file, "tls-key-file": file, "tls-ca-cert-file": file}
    )
    url = f"rediss://{host}:{port}{query.format(file=file)}"
    if failure is None:
        assert await execute_once(url, b"ECHO", b"hello") == b"hello"
    else:
        with pytest.raises(Exception) as caught:  # noqa: PT011  `describe` is what is tested
            await execute_once(url, b"ECHO", b"hello")
        assert describe(caught.value) == failure


async def test_client_certificate_is_sent(start_redis: StartRedis, tmp_path: Path) -> None:
    file = str(make_certificate(tmp_path))
    files = {"tls-cert-file": file, "tls-key-file": file, "tls-ca-cert-file": file}
    await start_redis(**{"tls-port": str(port := free_port()), "tls-auth-clients": "yes"}, **files)
    url = f"rediss://127.0.0.1:{port}?ssl_ca_certs={file}"
    with pytest.raises(RedisFailure):
        await execute_once(url, b"ECHO", b"hello")
    assert await execute_once(f"{url}&ssl_certfile={file}", b"ECHO", b"hello") == b"hello"


# --- commands -----------------------------------------------------------------------------------


async def test_command_that_was_not_sent_fails_with_the_connection(
    redis_server: RedisServer,
) -> None:
    async with open_connection(redis_server.url) as connection:
        command = connection.execute(b"PING")  # waits for the end of this turn of the event loop
        connection.close()
        with pytest.raises(RedisConnectionLost):
            await command


# --- cluster mode -------------------------------------------------------------------------------


async def start_cluster_node(start_redis: StartRedis) -> RedisServer:
    bus = {"cluster-enabled": "yes", "cluster-port": str(free_port())}
    return await start_redis(**bus)


async def test_redirect_to_the_node_of_all_keys_is_a_failure(start_redis: StartRedis) -> None:
    entry, owner = [await start_cluster_node(start_redis) for _ in range(2)]
    keys = [PAUSE_KEY, patient_key("pt_1"), token_key("{other}"), token_key("}")]
    assert len({await entry.execute("CLUSTER", "KEYSLOT", key) for key in keys}) == 1
    await owner.execute("CLUSTER", "ADDSLOTSRANGE", "0", "16383")
    bus = await owner.execute("CONFIG", "GET", "cluster-port")
    await entry.execute("CLUSTER", "MEET", "127.0.0.1", str(owner.port), bus.splitlines()[1])

    async def knows_every_owner() -> bool:
        return "cluster_state:ok" in await entry.execute("CLUSTER", "INFO")

    await eventually(knows_every_owner)
    with pytest.raises(RedisReplyError, match="MOVED"):
        await execute_once(entry.url, b"MGET", *keys)
