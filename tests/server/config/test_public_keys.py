"""Public keys: which PEM blocks are accepted, and the algorithms of each kind of key."""

import re
from typing import Any

import pytest

from server.config.keys import (
    ED25519_ALGORITHMS,
    MAX_PEM_BLOCKS,
    RSA_ALGORITHMS,
    algorithms_of,
    load_public_keys,
)
from tests import pems

CERTIFICATE = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"


@pytest.mark.parametrize(
    ("key", "algorithms"),
    [
        (pems.RSA, RSA_ALGORITHMS),
        (pems.P256, {"ES256"}),
        (pems.P384, {"ES384"}),
        (pems.P521, {"ES512"}),
        (pems.ED25519, ED25519_ALGORITHMS),
        (pems.ED448, {"EdDSA"}),
    ],
    ids=["RSA", "P-256", "P-384", "P-521", "Ed25519", "Ed448"],
)
def test_algorithms_of_each_kind_of_key(key: Any, algorithms: set[str]) -> None:
    (loaded,) = load_public_keys(pems.public(key))
    assert algorithms_of(loaded) == algorithms


@pytest.mark.parametrize("key", [pems.WEAK, pems.K256, pems.DSA], ids=["weak", "k256", "dsa"])
def test_weak_and_unsupported_keys_are_rejected(key: Any) -> None:
    assert algorithms_of(key.public_key()) == frozenset()
    with pytest.raises(ValueError, match="too weak"):
        load_public_keys(pems.public(key))


def test_other_objects_have_no_algorithms() -> None:
    assert algorithms_of(b"secret") == algorithms_of(None) == frozenset()


def test_several_blocks_are_loaded_in_order() -> None:
    blocks = [pems.public(key) for key in (pems.P256, pems.RSA, pems.ED25519)]
    text = "Explanatory text (RFC 7468).\n" + "\n".join(blocks) + "more text"
    kinds = [algorithms_of(key) for key in load_public_keys(text)]
    assert kinds == [{"ES256"}, RSA_ALGORITHMS, ED25519_ALGORITHMS]


def test_the_number_of_blocks_is_limited() -> None:
    block = pems.public(pems.P256)
    assert len(load_public_keys(block * MAX_PEM_BLOCKS)) == MAX_PEM_BLOCKS
    with pytest.raises(ValueError, match="more than 8 PEM blocks"):
        load_public_keys(block * (MAX_PEM_BLOCKS + 1))


@pytest.mark.parametrize(
    ("block", "message"),
    [
        (pems.private(pems.RSA), "is a private key"),
        (pems.private(pems.P256), "openssl pkey -pubout"),
        (CERTIFICATE, "is a certificate"),
        ("-----BEGIN PUBLIC KEY-----\nxx\n-----END PUBLIC KEY-----\n", "is not a PEM public key"),
        (pems.public(pems.RSA)[:200], "has no END line"),
        ("-----BEGIN PUBLIC KEY-----", "has no END line"),
        (pems.public(pems.WEAK), "is too weak"),
    ],
)
def test_each_block_must_be_a_usable_public_key(block: str, message: str) -> None:
    for text, number in ((block, 1), (pems.public(pems.P256) + block, 2)):
        with pytest.raises(ValueError, match=re.escape(message)) as caught:
            load_public_keys(text)
        assert str(caught.value).startswith(f"PEM block {number} ")
        assert caught.value.__suppress_context__ or caught.value.__context__ is None


@pytest.mark.parametrize("text", ["", "x" * 100, "é", "ssh-rsa AAAA"])
def test_text_without_a_block_is_rejected(text: str) -> None:
    with pytest.raises(ValueError, match="contains no PEM public key"):
        load_public_keys(text)
