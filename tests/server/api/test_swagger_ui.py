"""The API page."""

import re

import pytest

from rig.service import make_settings
from server.config import checks as validation
from tests.conftest import Serve

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; connect-src 'self'; base-uri 'none'; frame-ancestors 'none'"
)
FILES = [
    ("/docs", "text/html", b"<!doctype html>\n", b"</html>\n"),
    ("/docs/start.js", "text/javascript", b"const dark = matchMedia(", b"});\n"),
    ("/docs/swagger-ui-bundle.js", "text/javascript", b"", b""),
    ("/docs/swagger-ui.css", "text/css", b"", b""),
]


async def test_page_loads_only_local_resources(serve: Serve) -> None:
    service = await serve(DOCS_ENABLED="true")
    page = (await service.ask("GET", "/docs")).body
    assert b"http" not in page
    named = re.findall(r'(?:src|href)="(/[^"]+)"', page.decode())
    assert {"/docs", *named} == {"/openapi.json", *(path for path, *_ in FILES)}
    for path, kind, start, end in FILES:
        answer = await service.ask("GET", path)
        assert answer.status == 200
        assert answer.response.headers["Content-Type"] == f"{kind}; charset=utf-8"
        assert answer.response.headers["Content-Security-Policy"] == POLICY
        assert answer.body.startswith(start)
        assert answer.body.endswith(end)


async def test_page_is_disabled_by_default(serve: Serve) -> None:
    service = await serve()
    answer = await service.ask("GET", "/docs")
    assert answer.code == "NOT_FOUND"


def test_missing_extra_is_a_configuration_fault(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = make_settings(DOCS_ENABLED="true")
    assert settings.docs_enabled
    monkeypatch.setattr(validation, "find_swagger_ui", lambda: None)
    with pytest.raises(Exception, match="DOCS_ENABLED: needs the extra"):
        make_settings(DOCS_ENABLED="true")
