"""The OpenAPI document: valid, complete, and true of the real answers."""

from collections.abc import Mapping
from typing import Any

import pytest
from jsonschema import (  # type: ignore[import-untyped]  # it has no types
    Draft202012Validator,
    FormatChecker,
)
from openapi_spec_validator import OpenAPIV31SpecValidator, validate

from middlewares.api_errors import ERRORS
from server.api.openapi import build_document
from tests.conftest import Serve
from tests.server.config.test_proof_key import PROOF
from tests.support import PATH, Answer, Service, sign
from tests.table import TABLE, Row
from tests.wire import exchange

DOCUMENT = build_document(PATH)


def holds(answer: Answer, operation: Mapping[str, Any]) -> None:
    """Check a real answer against what the document says of its status."""
    described = operation["responses"][str(answer.status)]
    content = described["content"]["application/json"]
    schema = {**content["schema"], "components": DOCUMENT["components"]}
    Draft202012Validator(schema, format_checker=FormatChecker()).validate(answer.json)
    always = set(described["headers"]) - {"Retry-After", "WWW-Authenticate", "Allow"}
    assert always <= set(answer.response.headers)


def test_the_document_is_valid() -> None:
    validate(DOCUMENT, cls=OpenAPIV31SpecValidator)


async def test_it_is_served_as_it_is_built(service: Service) -> None:
    answer = await service.ask("GET", "/openapi.json")
    assert answer.status == 200
    assert answer.json == DOCUMENT
    holds(answer, DOCUMENT["paths"]["/openapi.json"]["get"])


@pytest.mark.parametrize("credential", ["public_key", "session_token"])
async def test_a_success_is_as_described(serve: Serve, credential: str) -> None:
    service = await serve(VAPI_CREDENTIAL=credential)
    answer = await service.start(sign(), json={"patientContext": {"id": "pt_1"}})
    assert answer.status == 200
    holds(answer, DOCUMENT["paths"][PATH]["post"])


async def test_a_success_with_a_proof_is_as_described(serve: Serve) -> None:
    answer = await (await serve(**PROOF)).start(sign())
    assert "patientProof" in answer.json["data"]
    holds(answer, DOCUMENT["paths"][PATH]["post"])


@pytest.mark.parametrize(("variables", "status"), [(PROOF, 200), ({}, 404)])
async def test_the_keys_of_proofs_are_as_described(
    serve: Serve, variables: dict[str, str], status: int
) -> None:
    path = "/.well-known/jwks.json"
    answer = await (await serve(**variables)).ask("GET", path)
    assert answer.status == status
    holds(answer, DOCUMENT["paths"][path]["get"])


OF_NO_OPERATION = {"NOT_FOUND", "METHOD_NOT_ALLOWED"}
ROWS = {row.code: row for row in TABLE if row.code not in OF_NO_OPERATION}


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS.keys())
async def test_an_error_is_as_described(serve: Serve, row: Row) -> None:
    service = await serve(**row.variables)
    answer = await exchange(service, row.sent())
    described = DOCUMENT["paths"][PATH]["post"]["responses"][str(row.status)]
    assert f"`{row.code}`" in described["description"]
    schema = {
        **described["content"]["application/json"]["schema"],
        "components": DOCUMENT["components"],
    }
    Draft202012Validator(schema).validate(answer.json)
    assert set(answer.headers) & {"Retry-After", "WWW-Authenticate"} <= set(described["headers"])


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
async def test_the_operators_routes_are_as_described(service: Service, path: str) -> None:
    holds(await service.ask("GET", path), DOCUMENT["paths"][path]["get"])


async def test_starting_is_as_described(serve: Serve) -> None:
    service = await serve(JWT_SECRET="", JWT_JWKS_URL="http://127.0.0.1:1", JWT_ISSUER="us")
    answer = await service.ask("GET", "/readyz")
    assert answer.status == 503
    holds(answer, DOCUMENT["paths"]["/readyz"]["get"])


def test_every_code_is_described_but_those_of_no_operation() -> None:
    described = str(DOCUMENT["paths"][PATH]["post"]["responses"])
    missing = {code for code in ERRORS if f"`{code}`" not in described}
    assert missing == OF_NO_OPERATION
    assert DOCUMENT["components"]["schemas"]["Error"]["properties"]["error"]["properties"]["code"][
        "enum"
    ] == list(ERRORS)
