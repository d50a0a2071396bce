"""Which values of `PROOF_KEY` are accepted, and what operators read about the others."""

import subprocess
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from rig.service import NO_FILE, VARIABLES, make_settings
from server.config import load_settings
from server.config.keys import load_proof_keys
from server.config.loader import SettingsError
from tests import pems

KEY = pems.private(pems.P256)
OTHER = ec.generate_private_key(ec.SECP256R1())
PROOF = {
    "PROOF_KEY": KEY,
    "PROOF_ISSUER": "https://sessions.example",
    "PROOF_AUDIENCE": "https://tools.example",
}


def written(key: Any, form: PrivateFormat, password: bytes | None = None) -> str:
    encryption = BestAvailableEncryption(password) if password else NoEncryption()
    pem: bytes = key.private_bytes(Encoding.PEM, form, encryption)
    return pem.decode()


def faults(**variables: str) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        load_settings({**VARIABLES, **PROOF, **variables}, NO_FILE)
    return caught.value.faults


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
    keys = [OTHER, pems.P256]
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
    assert faults(PROOF_KEY=value) == [f"PROOF_KEY: {fault}"]


def test_issuer_and_audience_are_required_with_the_key() -> None:
    required = {f"PROOF_{name}: is required with PROOF_KEY" for name in ("ISSUER", "AUDIENCE")}
    assert required < set(faults(PROOF_ISSUER="", PROOF_AUDIENCE="", PROOF_KEY="x"))
    assert make_settings(PROOF_ISSUER="https://sessions.example").proof_key == ""


@pytest.mark.parametrize("value", [KEY, pems.private(OTHER) + KEY])
def test_key_that_verifies_tokens_of_patients_is_a_fault(value: str) -> None:
    fault = "PROOF_KEY: must not be a key of JWT_PUBLIC_KEY, which verifies patients' tokens"
    public = pems.public(pems.P256)
    assert faults(PROOF_KEY=value, JWT_SECRET="", JWT_PUBLIC_KEY=public) == [fault]
    for pem in (public.replace("\n", "\\n"), pems.public(pems.P384) + public):
        assert fault in faults(PROOF_KEY=value, JWT_SECRET="", JWT_PUBLIC_KEY=pem)
    other = {**PROOF, "JWT_SECRET": "", "JWT_PUBLIC_KEY": pems.public(pems.RSA)}
    assert make_settings(**other).proof_key == KEY


def test_unreadable_key_of_patients_is_reported_once() -> None:
    for value in (pems.public(pems.RSA).replace("M", "!"), pems.public(pems.RSA)[:80]):
        [fault] = faults(JWT_SECRET="", JWT_PUBLIC_KEY=value)
        assert fault.startswith("JWT_PUBLIC_KEY: ")
