"""Which public keys are taken, and which algorithms each may check."""

from typing import Any

import pytest

from server.config.public_keys import RSA_ALGORITHMS, algorithms_of, load_public_key
from tests import pems


@pytest.mark.parametrize(
    ("key", "algorithms"),
    [
        (pems.RSA, RSA_ALGORITHMS),
        (pems.P256, {"ES256"}),
        (pems.P384, {"ES384"}),
        (pems.P521, {"ES512"}),
        (pems.ED25519, {"EdDSA"}),
        (pems.ED448, {"EdDSA"}),
    ],
    ids=["RSA", "P-256", "P-384", "P-521", "Ed25519", "Ed448"],
)
def test_a_key_checks_the_algorithms_made_for_it(key: Any, algorithms: set[str]) -> None:
    assert algorithms_of(load_public_key(pems.public(key))) == algorithms


@pytest.mark.parametrize("key", [pems.WEAK, pems.K256, pems.DSA], ids=["weak", "k256", "dsa"])
def test_a_key_that_is_weak_or_of_no_use_is_refused(key: Any) -> None:
    assert algorithms_of(key.public_key()) == frozenset()
    with pytest.raises(ValueError, match="too weak"):
        load_public_key(pems.public(key))


def test_what_is_no_key_checks_nothing() -> None:
    assert algorithms_of(b"secret") == algorithms_of(None) == frozenset()


def test_a_private_key_is_refused_as_one() -> None:
    with pytest.raises(ValueError, match="private key"):
        load_public_key(pems.private(pems.RSA))


@pytest.mark.parametrize(
    "pem",
    [
        "",
        "x" * 100,
        "é",
        "-----BEGIN PUBLIC KEY-----\nxx\n-----END PUBLIC KEY-----\n",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        pems.public(pems.RSA)[:200],
    ],
)
def test_what_is_no_pem_is_refused_without_repeating_it(pem: str) -> None:
    with pytest.raises(ValueError, match="no PEM public key") as caught:
        load_public_key(pem)
    assert caught.value.__cause__ is None
