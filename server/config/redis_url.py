"""The address of Redis: `redis://`, `rediss://` or `unix://`, with the options of its query."""

import re
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs, unquote, urlsplit

_DEFAULT_PORT: Final = 6379
_LIKE: Final = "must be like redis://host:6379/0"
_VERIFY: Final = {"none": False, "optional": True, "required": True}
_BOOLEANS: Final = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


@dataclass(frozen=True, slots=True)
class TlsOptions:
    """The files of a TLS connection, and what of the server's certificate is verified."""

    ca_certs: str
    certfile: str
    keyfile: str
    verify: bool
    check_hostname: bool

    def make_context(self) -> ssl.SSLContext:
        """Return a TLS context. Raises OSError for a file that cannot be read or is not PEM."""
        context = ssl.create_default_context()
        if self.ca_certs:
            folder = Path(self.ca_certs).is_dir()
            context.load_verify_locations(
                cafile=None if folder else self.ca_certs, capath=self.ca_certs if folder else None
            )
        if self.certfile:
            context.load_cert_chain(self.certfile, self.keyfile or None)
        context.check_hostname = self.verify and self.check_hostname
        context.verify_mode = ssl.CERT_REQUIRED if self.verify else ssl.CERT_NONE
        return context


@dataclass(frozen=True, slots=True)
class RedisAddress:
    """Where Redis is, and how to log in; `path` is that of a Unix socket, `tls` None without."""

    host: str = ""
    port: int = _DEFAULT_PORT
    path: str = ""
    username: str = ""
    password: str = ""
    database: int = 0
    tls: TlsOptions | None = None


def parse_redis_url(url: str) -> RedisAddress:
    """Parse an address. Raises ValueError, with a message that does not repeat the address.

    Options of the query that are not known are ignored: other clients have many.
    """
    if not re.fullmatch(r"(rediss?|unix)://\S+", url):
        raise ValueError("must start with redis://, rediss:// or unix://")
    try:
        parts = urlsplit(url)
        port = parts.port or _DEFAULT_PORT
        (parts.hostname or "").encode("idna")
    except ValueError:
        raise ValueError(_LIKE) from None
    query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    is_unix = parts.scheme == "unix"
    if not (parts.path if is_unix else parts.hostname):
        raise ValueError(_LIKE)
    return RedisAddress(
        host="" if is_unix else parts.hostname or "",
        port=port,
        path=unquote(parts.path) if is_unix else "",
        username=unquote(parts.username or ""),
        password=unquote(parts.password or ""),
        database=_database(query.get("db", "") if is_unix else _path_or_query(parts.path, query)),
        tls=_tls_options(query) if parts.scheme == "rediss" else None,
    )


def _path_or_query(path: str, query: dict[str, str]) -> str:
    """Return the number of the database: the option `db`, else the whole path."""
    if not re.fullmatch(r"(/[0-9]*)?", path):
        raise ValueError(_LIKE)
    return query.get("db", path[1:])


def _database(text: str) -> int:
    if not re.fullmatch(r"[0-9]{0,9}", text):
        raise ValueError("must have a number as its database")
    return int(text or 0)


def _tls_options(query: dict[str, str]) -> TlsOptions:
    verify = _VERIFY.get(query.get("ssl_cert_reqs", "required"))
    if verify is None:
        raise ValueError("must have none or required as ssl_cert_reqs")
    check_hostname = _BOOLEANS.get(query.get("ssl_check_hostname", "true").lower())
    if check_hostname is None:
        raise ValueError("must have true or false as ssl_check_hostname")
    certfile, keyfile = query.get("ssl_certfile", ""), query.get("ssl_keyfile", "")
    if keyfile and not certfile:
        raise ValueError("must have ssl_certfile with ssl_keyfile")
    return TlsOptions(query.get("ssl_ca_certs", ""), certfile, keyfile, verify, check_hostname)
