"""The API page."""

import re

import pytest

from server.config import validation
from tests.conftest import Serve
from tests.support import make_settings


async def test_page_loads_only_local_resources(serve: Serve) -> None:
    service = await serve(DOCS_ENABLED="true")
    page = await service.ask("GET", "/docs")
    assert page.status == 200
    assert page.response.content_type == "text/html"
    named = re.findall(r'(?:src|href)="(/[^"]+)"', page.body.decode())
    assert len(named) == 4
    for path in named:
        answer = await service.ask("GET", path)
        assert (path, answer.status) == (path, 200)


async def test_content_security_policy(serve: Serve) -> None:
    service = await serve(DOCS_ENABLED="true")
    page = await service.ask("GET", "/docs")
    assert "default-src 'none'" in page.response.headers["Content-Security-Policy"]
    assert b"http" not in page.body


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
