"""The address of the client behind trusted proxies, from `X-Forwarded-For`."""

import re
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)
from typing import Final

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

FindAddresses = Callable[[str | None, Sequence[str]], tuple[str | None, str | None]]
"""Returns the addresses of client and peer, given the peer as the socket reports it and the values
of all `X-Forwarded-For` headers. The peer of a Unix domain socket has no address: None."""

_WITH_PORT: Final = re.compile(r"(?:\[(?P<v6>[^]]+:[^]]*)\]|(?P<v4>[0-9.]+))(?::([0-9]{1,5}))?")
_IPV4_MAPPED: Final = IPv6Network("::ffff:0:0/96")
_MAX_PORT: Final = 65535


def make_address_finder(trusted_proxies: Iterable[str]) -> FindAddresses:
    """Return the function that finds client and peer; `trusted_proxies` are networks (CIDR).

    The peer is the client, unless it is a trusted proxy. Then `X-Forwarded-For` is read from the
    right, where the nearest proxy appended the address it saw, up to the first address that is not
    a trusted proxy: the entries to its left were sent by the client. An entry that is not an
    address ends the search at the address before it. If every address is trusted, the leftmost is
    the client.

    Raises ValueError for a text that is not a network.
    """
    networks = [_parse_network(text) for text in trusted_proxies]

    def is_trusted(address: Address) -> bool:
        return any(address in network for network in networks)

    def find_client(peer: Address, forwarded_for: Sequence[str]) -> Address:
        client = peer
        if is_trusted(peer):
            for entry in reversed(",".join(forwarded_for).split(",")):
                if (address := parse_address(entry.strip(" \t"))) is None:
                    break
                client = address
                if not is_trusted(address):
                    break
        return client

    def find_addresses(
        peer: str | None, forwarded_for: Sequence[str]
    ) -> tuple[str | None, str | None]:
        if not peer:
            return None, None
        if (address := parse_address(peer)) is None:
            return peer, peer
        return str(find_client(address, forwarded_for)), str(address)

    return find_addresses


@lru_cache(maxsize=1024)
def parse_address(text: str) -> Address | None:
    """Return the address in an entry of `X-Forwarded-For`, or None when it is not one.

    A port is dropped (`192.0.2.1:80`, `[2001:db8::1]:80`); an IPv4-mapped IPv6 address becomes
    IPv4; an address with a zone id (RFC 4007) is not an address outside its host.
    """
    if match := _WITH_PORT.fullmatch(text):
        text = match["v6"] or match["v4"]
        if int(match[3] or 0) > _MAX_PORT:
            return None
    try:
        address = ip_address(text)
    except ValueError:
        return None
    if isinstance(address, IPv4Address):
        return address
    return None if address.scope_id else address.ipv4_mapped or address


def _parse_network(text: str) -> Network:
    """Return the network; one of IPv4-mapped addresses becomes IPv4."""
    network = ip_network(text)
    if isinstance(network, IPv6Network) and network.subnet_of(_IPV4_MAPPED):
        mapped = network.network_address.ipv4_mapped
        return ip_network(f"{mapped}/{network.prefixlen - _IPV4_MAPPED.prefixlen}")
    return network
