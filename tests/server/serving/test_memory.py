"""Freed memory is returned where the C library has a function for it."""

import pytest

from server.serving import memory


@pytest.mark.parametrize("exists", [True, False])
def test_return_free_memory(monkeypatch: pytest.MonkeyPatch, *, exists: bool) -> None:
    paddings: list[int] = []
    monkeypatch.setattr(memory, "_malloc_trim", paddings.append if exists else None)
    memory.return_free_memory()
    assert paddings == ([0] if exists else [])
