"""The address of the client behind trusted proxies."""

import re
from ipaddress import ip_address
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from middlewares.audit import make_address_finder, parse_address

PROXY = "10.0.0.1"
TRUSTED = ("10.0.0.0/8", "2001:db8:aaaa::/48")


@pytest.mark.parametrize(
    ("peer", "forwarded_for", "client"),
    [
        # Without a header, or with an empty one, the peer is the client.
        (PROXY, [], PROXY),
        (PROXY, [""], PROXY),
        # The header of an untrusted peer is ignored.
        ("203.0.113.9", ["198.51.100.7"], "203.0.113.9"),
        ("11.0.0.1", ["198.51.100.7"], "11.0.0.1"),
        # One proxy.
        (PROXY, ["198.51.100.7"], "198.51.100.7"),
        (PROXY, [" \t198.51.100.7\t "], "198.51.100.7"),
        ("2001:db8:aaaa::1", ["198.51.100.7"], "198.51.100.7"),
        (PROXY, ["2001:0DB8:BBBB:0:0:0:0:7"], "2001:db8:bbbb::7"),
        # A chain of proxies, in one header or in several.
        (PROXY, ["198.51.100.7, 10.0.0.3, 10.0.0.2"], "198.51.100.7"),
        (PROXY, ["198.51.100.7, 10.0.0.3", "10.0.0.2"], "198.51.100.7"),
        (PROXY, ["198.51.100.7, 2001:db8:aaaa::2"], "198.51.100.7"),
        # Entries of the client itself are to the left of its address.
        (PROXY, ["192.0.2.66, 198.51.100.7"], "198.51.100.7"),
        (PROXY, ["10.0.0.66, 198.51.100.7, 10.0.0.2"], "198.51.100.7"),
        (PROXY, ["garbage, 198.51.100.7"], "198.51.100.7"),
        # All are trusted: the leftmost.
        (PROXY, ["10.0.0.4, 10.0.0.3, 10.0.0.2"], "10.0.0.4"),
        # An entry that is not an address ends the search at the address before it.
        (PROXY, ["198.51.100.7, unknown"], PROXY),
        (PROXY, ["198.51.100.7, unknown, 10.0.0.2"], "10.0.0.2"),
        (PROXY, ["198.51.100.7,"], PROXY),
        (PROXY, ["198.51.100.7", "_hidden", "10.0.0.3, 10.0.0.2"], "10.0.0.3"),
        (PROXY, ["198.51.100.7\x00"], PROXY),
        (PROXY, ["\x0b198.51.100.7"], PROXY),
        (PROXY, ["198.51.100.7, fe80::1%eth0"], PROXY),
        # A port is dropped.
        (PROXY, ["198.51.100.7:1, 10.0.0.2:2, [2001:db8:aaaa::2]:3"], "198.51.100.7"),
        # IPv4-mapped IPv6 counts as IPv4.
        ("::ffff:10.0.0.1", ["198.51.100.7"], "198.51.100.7"),
        ("::ffff:203.0.113.9", ["198.51.100.7"], "203.0.113.9"),
        (PROXY, ["198.51.100.7, ::ffff:10.0.0.2"], "198.51.100.7"),
        (PROXY, ["[::ffff:198.51.100.7]:4711"], "198.51.100.7"),
    ],
)
def test_client(peer: str, forwarded_for: list[str], client: str) -> None:
    found, _ = make_address_finder(TRUSTED)(peer, forwarded_for)
    assert found == client


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("198.51.100.7", "198.51.100.7"),
        ("198.51.100.7:0", "198.51.100.7"),
        ("198.51.100.7:65535", "198.51.100.7"),
        ("::1", "::1"),
        ("2001:db8::7:443", "2001:db8::7:443"),
        ("[2001:db8::7]:443", "2001:db8::7"),
        ("::198.51.100.7", "::c633:6407"),
        ("::ffff:198.51.100.7", "198.51.100.7"),
    ],
)
def test_address(text: str, address: str) -> None:
    assert str(parse_address(text)) == address


NOT_ADDRESSES = """
    unknown localhost 3325256711 0xc6.51.100.7 198.51.100 198.51.100.7.1 198.51.100.256
    198.51.100.07 198.51.100.7/32 198.51.100.7: 198.51.100.7:x 198.51.100.7:-1 198.51.100.7:65536
    198.51.100.7:4711:1 [198.51.100.7]:4711 [198.51.100.7] 198.51.100.7%eth0 "198.51.100.7"
    ١٩٨.51.100.7 198.51.100.7:٤٧ 2001:db8::7::1 2001:db8::7/64 2001:db8::g [2001:db8::7 2001:db8::7]
    [2001:db8::7]443 [2001:db8::7]: [2001:db8::7]:65536 [[2001:db8::7]] [] []:443 fe80::1%eth0
    fe80::1% fe80::1%25eth0 [fe80::1%eth0]:443 ::ffff:198.51.100.7%eth0
"""


@pytest.mark.parametrize("text", ["", " ", "198.51.100.7\n", *NOT_ADDRESSES.split()])
def test_not_an_address(text: str) -> None:
    assert parse_address(text) is None


def test_peer_is_reported_beside_the_client() -> None:
    find = make_address_finder(TRUSTED)
    assert find("::ffff:10.0.0.1", ["198.51.100.7"]) == ("198.51.100.7", PROXY)


def test_peer_with_a_zone_id_is_not_trusted() -> None:
    find = make_address_finder(["fe80::/10"])
    assert find("fe80::1%eth0", ["198.51.100.7"]) == ("fe80::1%eth0", "fe80::1%eth0")
    assert find("fe80::1", ["198.51.100.7"]) == ("198.51.100.7", "fe80::1")


@pytest.mark.parametrize("peer", [PROXY, f"::ffff:{PROXY}"])
def test_without_trusted_proxies_the_peer_is_the_client(peer: str) -> None:
    assert make_address_finder(())(peer, ["198.51.100.7"]) == (PROXY, PROXY)


@pytest.mark.parametrize("network", ["10.0.0.1", "10.0.0.1/32", "::ffff:10.0.0.0/104", "0.0.0.0/0"])
def test_trusted_ipv4_network(network: str) -> None:
    find = make_address_finder([network])
    assert find(PROXY, ["2001:db8::7"]) == ("2001:db8::7", PROXY)


@pytest.mark.parametrize("network", ["10.0.0.2", "10.0.0.0/32", "::/0", "::ffff:0:0/128"])
def test_network_without_the_peer(network: str) -> None:
    assert make_address_finder([network])(PROXY, ["2001:db8::7"]) == (PROXY, PROXY)


@pytest.mark.parametrize("network", ["10.0.0.1/8", "proxy.internal", "", "10.0.0.0/33"])
def test_invalid_network(network: str) -> None:
    with pytest.raises(ValueError, match=r"network|host bits"):
        make_address_finder([network])


OPERATIONS = Path(__file__).parents[2] / "docs" / "operations.md"
ROW = re.compile(r"\| (.+?) \|(.*?)\| `(.+?)` \| `(.+?)` \| `(.+?)` \|")
SECTION = OPERATIONS.read_text("utf-8").partition("## Client addresses")[2].partition("\n## ")[0]
DEPLOYMENTS = {name: row for name, *row in ROW.findall(SECTION)}


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_documented_deployment(name: str) -> None:
    trusted, peer, forwarded_for, client = DEPLOYMENTS[name]
    find = make_address_finder(filter(None, trusted.strip(" `").split(",")))
    assert find(peer, [forwarded_for]) == (client, peer)


def test_every_deployment_is_documented() -> None:
    proxies = ("no proxy", "nginx", "AWS ALB", "Cloudflare", "Kubernetes")
    assert all(any(proxy in name for name in DEPLOYMENTS) for proxy in proxies)


@given(st.lists(st.text("0123456789abcdef.:[]%, ", max_size=60), max_size=3))
def test_client_is_always_an_address(forwarded_for: list[str]) -> None:
    client, peer = make_address_finder(["0.0.0.0/0", "::/0"])(PROXY, forwarded_for)
    assert peer == PROXY
    assert str(ip_address(client or "")) == client


@pytest.mark.parametrize(
    ("trusted", "client"),
    [(30, "198.51.100.7"), (31, "198.51.100.7"), (32, "10.0.0.0"), (10_000, "10.0.38.240")],
)
def test_only_the_rightmost_entries_are_looked_at(trusted: int, client: str) -> None:
    proxies = [f"10.0.{n // 256}.{n % 256}" for n in range(trusted)]
    forwarded_for = ["203.0.113.9,198.51.100.7", ",".join(proxies)]
    assert make_address_finder(TRUSTED)(PROXY, forwarded_for)[0] == client
