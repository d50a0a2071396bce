"""The OpenAPI document is valid and complete, and describes the actual responses.

`python -m tests.server.api.test_openapi` writes docs/openapi.json after an intended change.
"""

import json
from collections.abc import Iterator, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from jsonschema import (  # type: ignore[import-untyped]  # it has no types
    Draft202012Validator,
    FormatChecker,
)
from openapi_spec_validator import OpenAPIV31SpecValidator, validate

from middlewares.errors import ERRORS
from rig.service import PATH, Answer, Service, sign
from rig.wire import WireAnswer, exchange
from server.api.openapi import build_document
from tests.conftest import Serve
from tests.server.config.test_proof_key import PROOF
from tests.table import TABLE, Row

DOCUMENT = build_document(PATH)
PUBLISHED = Path(__file__).parents[3] / "docs" / "openapi.json"
OPTIONAL = {"patientProof"}


def check(answer: Answer | WireAnswer, operation: Mapping[str, Any]) -> None:
    """Check a response against its description, which must allow no other shape."""
    described = operation["responses"][str(answer.status)]
    schema = described["content"]["application/json"]["schema"]
    validator = Draft202012Validator(
        {**schema, "components": DOCUMENT["components"]}, format_checker=FormatChecker()
    )
    validator.validate(answer.json)
    for deviation in deviations(answer.json):
        assert not validator.is_valid(deviation), deviation
    headers = answer.headers if isinstance(answer, WireAnswer) else answer.response.headers
    described_headers, conditional = set(described["headers"]), {"Retry-After", "WWW-Authenticate"}
    assert described_headers - conditional <= set(headers)
    assert set(headers) & conditional <= described_headers


def deviations(value: Any) -> Iterator[Any]:
    """Yield copies of a JSON value with one change each: another type, or a property less."""
    yield [] if isinstance(value, dict) else {}
    keys = value if isinstance(value, dict) else range(len(value) if isinstance(value, list) else 0)
    for key in keys:
        if isinstance(value, dict) and key not in OPTIONAL:
            yield {name: item for name, item in value.items() if name != key}
        for changed in deviations(value[key]):
            copy = deepcopy(value)
            copy[key] = changed
            yield copy


def test_document_is_the_published_one() -> None:
    assert json.loads(PUBLISHED.read_text()) == DOCUMENT


def test_document_is_valid() -> None:
    validate(DOCUMENT, cls=OpenAPIV31SpecValidator)


async def test_document_is_served(service: Service) -> None:
    answer = await service.ask("GET", "/openapi.json")
    assert (answer.status, answer.json) == (200, DOCUMENT)


@pytest.mark.parametrize("credential", ["public_key", "session_token"])
async def test_success(serve: Serve, credential: str) -> None:
    service = await serve(VAPI_CREDENTIAL=credential)
    answer = await service.start(sign(), json={"patientContext": {"id": "pt_1"}})
    assert answer.status == 200
    check(answer, DOCUMENT["paths"][PATH]["post"])


async def test_success_with_a_proof(serve: Serve) -> None:
    answer = await (await serve(**PROOF)).start(sign())
    assert "patientProof" in answer.json["data"]
    check(answer, DOCUMENT["paths"][PATH]["post"])


@pytest.mark.parametrize(("variables", "status"), [(PROOF, 200), ({}, 404)])
async def test_proof_keys(serve: Serve, variables: dict[str, str], status: int) -> None:
    path = "/.well-known/jwks.json"
    answer = await (await serve(**variables)).ask("GET", path)
    assert answer.status == status
    check(answer, DOCUMENT["paths"][path]["get"])


CODES_OF_OTHER_PATHS = {"NOT_FOUND", "METHOD_NOT_ALLOWED"}
ROWS = {row.code: row for row in TABLE if row.code not in CODES_OF_OTHER_PATHS}


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS.keys())
async def test_error(serve: Serve, row: Row) -> None:
    service = await serve(**row.variables)
    answer = await exchange(service, row.sent())
    operation = DOCUMENT["paths"][PATH]["post"]
    assert f"`{row.code}`" in operation["responses"][str(row.status)]["description"]
    check(answer, operation)


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
async def test_operational_routes(service: Service, path: str) -> None:
    check(await service.ask("GET", path), DOCUMENT["paths"][path]["get"])


async def test_readiness_while_starting(serve: Serve) -> None:
    service = await serve(JWT_SECRET="", JWT_JWKS_URL="http://127.0.0.1:1", JWT_ISSUER="us")
    answer = await service.ask("GET", "/readyz")
    assert answer.status == 503
    check(answer, DOCUMENT["paths"]["/readyz"]["get"])


def test_every_code_of_the_endpoint_is_described() -> None:
    described = str(DOCUMENT["paths"][PATH]["post"]["responses"])
    missing = {code for code in ERRORS if f"`{code}`" not in described}
    assert missing == CODES_OF_OTHER_PATHS
    assert DOCUMENT["components"]["schemas"]["Error"]["properties"]["error"]["properties"]["code"][
        "enum"
    ] == list(ERRORS)


def described_bodies() -> Iterator[tuple[str, Any]]:
    """Yield each described response with JSON, by its operation and status."""
    for path, methods in DOCUMENT["paths"].items():
        for method, operation in methods.items():
            for status, response in operation["responses"].items():
                if body := response["content"].get("application/json"):
                    yield f"{method} {path} {status}", body


@pytest.mark.parametrize(("name", "body"), list(described_bodies()))
def test_each_response_has_valid_examples(name: str, body: Any) -> None:
    validator = Draft202012Validator(
        {**body["schema"], "components": DOCUMENT["components"]}, format_checker=FormatChecker()
    )
    assert body["examples"], name
    for example in body["examples"].values():
        validator.validate(example["value"])


if __name__ == "__main__":
    PUBLISHED.write_text(json.dumps(DOCUMENT, indent=2) + "\n")
