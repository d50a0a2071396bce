"""Keys in PEM: those that verify tokens, and those that sign proofs of patients (`PROOF_KEY`)."""

import re
import subprocess
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from rig.service import make_settings
from server.config.keys import (
    ED25519_ALGORITHMS,
    MAX_PEM_BLOCKS,
    RSA_ALGORITHMS,
    algorithms_of,
    load_proof_keys,
    load_public_keys,
)
from tests import pems
from tests.pems import PROOF
from tests.server.config.support import faults

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


# --- proofs of patients ----------------------------------------------------------------------

KEY = PROOF["PROOF_KEY"]


def written(key: Any, form: PrivateFormat, password: bytes | None = None) -> str:
    encryption = BestAvailableEncryption(password) if password else NoEncryption()
    pem: bytes = key.private_bytes(Encoding.PEM, form, encryption)
    return pem.decode()


@pytest.mark.parametrize(
    "value",
    [
        KEY,
        KEY.replace("\n", "\\n"),
        KEY.replace("\n", "\r\n"),
        written(pems.P256, PrivateFormat.TraditionalOpenSSL),
        f"the key of 2026:\n{KEY}",
        KEY + KEY,
    ],
    ids=["PKCS #8", "in one line", "CRLF", "SEC 1", "with a comment", "twice"],
)
def test_one_key_is_loaded(value: str) -> None:
    settings = make_settings(**{**PROOF, "PROOF_KEY": value})
    [key] = load_proof_keys(settings.proof_key)
    assert key.private_numbers() == pems.P256.private_numbers()


def test_keys_keep_their_order() -> None:
    keys = [pems.OTHER_P256, pems.P256]
    loaded = load_proof_keys("".join(pems.private(key) for key in keys))
    assert [key.private_numbers() for key in loaded] == [key.private_numbers() for key in keys]


def test_the_curve_in_a_block_of_its_own_is_ignored() -> None:
    command = "openssl ecparam -name prime256v1 -genkey"
    made = subprocess.run(command.split(), capture_output=True, text=True, check=True)
    assert made.stdout.count("-----BEGIN ") == 2
    assert len(load_proof_keys(made.stdout)) == 1


ENCRYPTED = "PEM block 1 is encrypted: give the key without a passphrase"
CUT = "PEM block 1 has no END line: put the PEM in double quotes or in a file"
UNREADABLE = "PEM block 1 is not a PEM private key (-----BEGIN PRIVATE KEY-----)"
NOT_PRIVATE = "is not a private key: a private P-256 key signs the proofs"
NOT_P256 = "is not a P-256 key (prime256v1, secp256r1)"


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        ("secret", "contains no PEM private key (-----BEGIN PRIVATE KEY-----)"),
        (KEY[:80], CUT),
        (KEY[:80] + KEY, CUT),
        (pems.public(pems.P256), f"PEM block 1 {NOT_PRIVATE}"),
        (KEY + pems.public(pems.P256), f"PEM block 2 {NOT_PRIVATE}"),
        (pems.private(pems.RSA), f"PEM block 1 {NOT_P256}"),
        (pems.private(pems.P384), f"PEM block 1 {NOT_P256}"),
        (pems.private(pems.K256), f"PEM block 1 {NOT_P256}"),
        (KEY + pems.private(pems.ED25519), f"PEM block 2 {NOT_P256}"),
        (KEY.replace("M", "!"), UNREADABLE),
        (KEY.replace("M", "é"), UNREADABLE),
        (KEY.replace("M", "\udce9"), UNREADABLE),
        (written(pems.P256, PrivateFormat.PKCS8, b"phrase"), ENCRYPTED),
        (written(pems.P256, PrivateFormat.TraditionalOpenSSL, b"phrase"), ENCRYPTED),
    ],
    ids=lambda value: "PEM" if "BEGIN" in value else None,  # every process has keys of its own
)
def test_other_values_are_faults(value: str, fault: str) -> None:
    assert faults(**{**PROOF, "PROOF_KEY": value}) == {"PROOF_KEY": fault}


def test_issuer_and_audience_are_required_with_the_key() -> None:
    missing = dict.fromkeys(["PROOF_ISSUER", "PROOF_AUDIENCE"], "is required with PROOF_KEY")
    assert faults(PROOF_KEY=KEY) == missing
    assert faults(PROOF_KEY="x").items() > missing.items()
    assert make_settings(PROOF_ISSUER="https://sessions.example").proof_key == ""


@pytest.mark.parametrize("before", ["", pems.private(pems.OTHER_P256)], ids=["first", "second"])
def test_key_that_verifies_tokens_of_patients_is_a_fault(before: str) -> None:
    fault = "must not be a key of JWT_PUBLIC_KEY, which verifies patients' tokens"
    public = pems.public(pems.P256)
    variables = {**PROOF, "PROOF_KEY": before + KEY, "JWT_SECRET": ""}
    for pem in (public, public.replace("\n", "\\n"), pems.public(pems.P384) + public):
        assert faults(**variables, JWT_PUBLIC_KEY=pem)["PROOF_KEY"] == fault
    other = {**PROOF, "JWT_SECRET": "", "JWT_PUBLIC_KEY": pems.public(pems.RSA)}
    assert make_settings(**other).proof_key == KEY


def test_unreadable_key_of_patients_is_reported_once() -> None:
    for value in (pems.public(pems.RSA).replace("M", "!"), pems.public(pems.RSA)[:80]):
        assert faults(**PROOF, JWT_SECRET="", JWT_PUBLIC_KEY=value).keys() == {"JWT_PUBLIC_KEY"}
