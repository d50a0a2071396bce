"""Both verifiers of docs/tools accept and refuse the same proofs, for the same reasons."""

from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any

import pytest
from verify_patient import ProofError, verify_claims, verify_patient

from tests.tools.drivers import NodeDriver
from tests.tools.proofs import (
    AUDIENCE,
    GOOD,
    ISSUER,
    PATIENT,
    PUBLISHED,
    TABLE,
    Row,
    call,
    claims,
)

Verdicts = dict[str, dict[str, str]]
"""The result of a verifier for each row: a patient, or a reason and a text."""


def in_python(row: Row) -> dict[str, str]:
    expected = {"jwks": row.jwks, "issuer": row.issuer, "audience": row.audience}
    if row.allowedOverrides is not None:
        expected["allowed_overrides"] = row.allowedOverrides
    try:
        return {"patient": verify_patient(row.proof, row.call, **expected)}
    except ProofError as error:
        return {"reason": error.reason, "text": str(error)}


@pytest.fixture(scope="session")
def in_node(node: NodeDriver) -> Verdicts:
    """Verify the whole table in Node.js."""
    rows = [row for group in TABLE for row in group()]
    found = [node.run("patient", **without_none(asdict(row))) for row in rows]
    return {row.name: verdict(each) for row, each in zip(rows, found, strict=True)}


def verdict(found: dict[str, Any]) -> dict[str, str]:
    return {"patient": found["value"]} if "value" in found else found


def without_none(row: dict[str, Any]) -> dict[str, Any]:
    """Leave the default of the verifier."""
    if row["allowedOverrides"] is None:
        del row["allowedOverrides"]
    return row


def test_each_row_has_a_name_of_its_own() -> None:
    names = [row.name for group in TABLE for row in group()]
    assert len(names) == len(set(names)) > 250


@pytest.mark.parametrize("group", TABLE, ids=lambda group: group.__name__)
def test_both_verifiers_decide_as_in_the_table(
    group: Callable[[], Iterator[Row]], in_node: Verdicts
) -> None:
    wanted = {row.name: row.reason or PATIENT for row in group()}
    python = {row.name: in_python(row) for row in group()}
    javascript = {name: in_node[name] for name in wanted}
    assert decisions(python) == wanted
    assert decisions(javascript) == wanted
    assert python == javascript  # the texts too


def decisions(verdicts: Verdicts) -> dict[str, str | None]:
    return {
        name: verdict.get("reason", verdict.get("patient")) for name, verdict in verdicts.items()
    }


def test_a_refusal_repeats_nothing_of_the_proof(in_node: Verdicts) -> None:
    texts = {verdict["text"] for verdict in in_node.values() if "text" in verdict}
    assert len(texts) > 15
    assert all(text[0].isupper() and PATIENT not in text for text in texts)


def test_all_claims_are_returned() -> None:
    found = verify_claims(GOOD, call(), jwks=PUBLISHED, issuer=ISSUER, audience=AUDIENCE)
    assert found == claims()


@pytest.mark.parametrize("value", [b"", GOOD.encode(), object(), {GOOD}, 1.5, float("nan")])
def test_python_refuses_values_outside_json(value: Any) -> None:
    assert in_python(Row("", None, value))["reason"] == "malformed"
