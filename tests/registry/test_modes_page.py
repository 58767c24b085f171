"""How tools are shown can be chosen on the page that connects clients."""

from __future__ import annotations

import httpx
import pytest

from tests.registry.test_pages import CSRF

pytestmark = pytest.mark.anyio


async def test_a_mode_goes_into_every_configuration(browser: httpx.AsyncClient) -> None:
    answer = await browser.get("/connect", params={"endpoint": "c/support", "mode": "search"})
    assert answer.text.count("http://127.0.0.1:4180/mcp/c/support?mode=search") >= 5
    assert "/mcp?mode=" not in (await browser.get("/connect", params={"mode": "surprise"})).text


async def test_a_collections_mode_is_changed_and_all_else_of_it_stays(browser: httpx.AsyncClient) -> None:
    page = await browser.get("/connect", params={"endpoint": "c/support"})
    assert 'action="/connect/mode"' in page.text
    told = {"collection": "support", "mode": "search", "pinned": "tickets/create, wiki/*"}
    answer = await browser.post("/connect/mode", data=CSRF | told)
    assert (answer.status_code, answer.headers["location"].partition("?")[0]) == (303, "/connect")
    for wrong in ({"collection": "absent"}, {"mode": "surprise"}):
        answer = await browser.post("/connect/mode", data=CSRF | told | wrong)
        assert answer.headers["location"].startswith("/connect")
