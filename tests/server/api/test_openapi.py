"""The OpenAPI document is valid and complete, and describes the actual responses.

`python -m tests.server.api.test_openapi` fills in the table of errors after an intended change.
"""

import json
from collections import defaultdict
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

from middlewares.errors import ERRORS, ErrorCode
from rig.service import PATH, Answer, Service, sign
from rig.wire import WireAnswer
from server.auth.claims import PATIENT_ID_PATTERN
from server.config.validators import MAX_CONSENTS, NAME_PATTERN
from server.redis.client import RedisState
from server.vapi.health import VapiState
from tests.conftest import Serve
from tests.pems import PROOF

FILE = Path(__file__).parents[3] / "server" / "api" / "openapi.json"
DOCUMENT = json.loads(FILE.read_text())
START = DOCUMENT["paths"][PATH]["post"]
OPTIONAL = {"patientProof"}
CODES_OF_OTHER_PATHS = {ErrorCode.NOT_FOUND, ErrorCode.METHOD_NOT_ALLOWED}


def codes_by_status() -> dict[str, list[ErrorCode]]:
    found = defaultdict(list)
    for code, kind in ERRORS.items():
        if code not in CODES_OF_OTHER_PATHS:
            found[str(kind.status)].append(code)
    return found


def with_errors() -> Any:
    """Return the document with the table of errors; the `details` of its examples stay."""
    filled = deepcopy(DOCUMENT)
    error = filled["components"]["schemas"]["Error"]["properties"]["error"]
    error["properties"]["code"]["enum"] = [*ERRORS]
    for status, codes in codes_by_status().items():
        response = filled["paths"][PATH]["post"]["responses"][status]
        response["description"] = " ".join(f"`{code}`: {ERRORS[code].message}." for code in codes)
        body = response["content"]["application/json"]
        body["examples"] = {code: example(code, body["examples"].get(code)) for code in codes}
    return filled


def example(code: ErrorCode, last: Any) -> Any:
    message = ERRORS[code].message
    details = last["value"]["error"]["details"] if last else message
    error = {"code": code, "message": message, "details": details}
    return {"value": {"success": False, "error": error}}


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


def test_document_has_the_table_of_errors() -> None:
    command = "python -m tests.server.api.test_openapi"
    assert json.dumps(with_errors()) == json.dumps(DOCUMENT), f"run {command}"
    assert START["responses"].keys() == {"200", *codes_by_status()}


def test_document_has_the_states_and_formats() -> None:
    schemas = DOCUMENT["components"]["schemas"]
    parts = schemas["Readiness"]["properties"]["parts"]["properties"]
    assert parts["vapi"]["enum"] == [*VapiState]
    assert parts["redis"]["enum"] == ["off", *RedisState]
    request = schemas["SessionRequest"]["properties"]
    patient_id = request["patientContext"]["properties"]["id"]
    assert patient_id["pattern"] == f"^{PATIENT_ID_PATTERN}$"
    assert request["assistant"]["pattern"] == f"^{NAME_PATTERN}$"
    assert request["consent"]["maxProperties"] == MAX_CONSENTS


def test_document_is_valid() -> None:
    validate(DOCUMENT, cls=OpenAPIV31SpecValidator)


def test_document_is_packaged() -> None:
    assert '"api/openapi.json"' in (FILE.parents[2] / "setup.py").read_text()


async def test_document_is_served(service: Service) -> None:
    answer = await service.ask("GET", "/openapi.json")
    assert answer.status == 200
    assert answer.body.decode() == json.dumps(DOCUMENT, separators=(",", ":"), ensure_ascii=False)


@pytest.mark.parametrize("credential", ["public_key", "session_token"])
async def test_success(serve: Serve, credential: str) -> None:
    service = await serve(VAPI_CREDENTIAL=credential)
    answer = await service.start(sign(), json={"patientContext": {"id": "pt_1"}})
    assert answer.status == 200
    check(answer, START)


async def test_success_with_a_proof(serve: Serve) -> None:
    answer = await (await serve(**PROOF)).start(sign())
    assert "patientProof" in answer.json["data"]
    check(answer, START)


@pytest.mark.parametrize(("variables", "status"), [(PROOF, 200), ({}, 404)])
async def test_proof_keys(serve: Serve, variables: dict[str, str], status: int) -> None:
    path = "/.well-known/jwks.json"
    answer = await (await serve(**variables)).ask("GET", path)
    assert answer.status == status
    check(answer, DOCUMENT["paths"][path]["get"])


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
async def test_operational_routes(service: Service, path: str) -> None:
    check(await service.ask("GET", path), DOCUMENT["paths"][path]["get"])


async def test_readiness_while_starting(serve: Serve) -> None:
    service = await serve(JWT_SECRET="", JWT_JWKS_URL="http://127.0.0.1:1", JWT_ISSUER="us")
    answer = await service.ask("GET", "/readyz")
    assert answer.status == 503
    check(answer, DOCUMENT["paths"]["/readyz"]["get"])


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
    FILE.write_text(json.dumps(with_errors(), indent=2) + "\n")
