"""Every feature works in every cell of client era and server era, over HTTP and stdio, on every kind of endpoint.

One hub for all: two servers that know only the legacy eras and two that know only the modern one stand in its aggregate
together, so every modern cell also shows that an old server beside it lowers nothing.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.eras.callers import Legacy, Modern
from tests.eras.matrix import ENDPOINTS, ERAS, FEATURES, TRANSPORTS, Place, cells
from tests.eras.page import PAGE, page
from tests.support.hub import Era, RunningHub

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(("feature", "client", "server", "transport"), cells())
async def test_a_feature_in_a_cell(hub: RunningHub, feature: str, client: Era, server: Era, transport: str) -> None:
    name = f"{transport}-{server}"
    for pattern in ENDPOINTS.values():
        path = pattern.format(server=name)
        caller = Modern(hub, path) if client == "modern" else await Legacy.open(hub, path)
        await FEATURES[feature].check(Place(hub, caller, client, name, path.removeprefix("/mcp").strip("/")))
        if isinstance(caller, Legacy):
            await caller.close()


@pytest.mark.parametrize("era", ERAS)
async def test_a_server_of_another_era_lowers_nothing_for_the_others(hub: RunningHub, era: Era) -> None:
    """What the aggregate promises to an era is all that its servers promise, whatever stands beside them."""
    promised: list[dict[str, Any]] = []
    for path in (f"/mcp/s/http-{era}", "/mcp"):
        if era == "modern":
            promised.append((await Modern(hub, path).ask("server/discover", {})).result["capabilities"])
        else:
            hello = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
            body: dict[str, Any] = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": hello}
            headers = hub.bearer() | {"accept": "application/json, text/event-stream"}
            promised.append((await hub.http.post(path, json=body, headers=headers)).json()["result"]["capabilities"])
    alone, together = promised
    for name, value in alone.items():
        assert value.items() <= together[name].items(), name


def test_the_matrix_is_whole() -> None:
    assert len(FEATURES) == 14
    assert len(cells()) == len(FEATURES) * len(ERAS) ** 2 * len(TRANSPORTS)


def test_the_page_of_the_matrix_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run: make docs"
