"""What people are shown of a declaration: what changed, never a secret."""

from __future__ import annotations

import pytest

from hub.catalog.manifest import ServerSpec
from hub.catalog.sealing import difference


@pytest.mark.parametrize("address", ["url", "openapi"])
def test_a_key_in_an_addresss_query_does_not_show_in_a_diff(address: str) -> None:
    before = ServerSpec.model_validate({"name": "maps", address: "https://maps.example/mcp?key=first-secret"})
    after = ServerSpec.model_validate({"name": "maps", address: "https://maps.example/mcp?key=second-secret"})
    shown = difference(before, after)
    assert set(shown) == {address}
    assert "secret" not in str(shown)
    assert "maps.example" in str(shown)
