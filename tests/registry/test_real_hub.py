"""One journey through the pages of a real installation: a server, a tool, a key, the audit, both languages.

Everything is what a person would have: `entrepot up`, a one-time link, a browser, an MCP server behind the hub.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Generator
from pathlib import Path

import pytest
import uvicorn
from mcp.server.mcpserver import MCPServer
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.support.installation import Installation, installed
from tests.support.upstreams import free_socket

CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
PATIENCE = 20_000
"""Milliseconds for any one thing to appear on a busy machine."""

pytestmark = pytest.mark.skipif(
    not Path(CHROMIUM).exists(), reason=f"no Chromium at {CHROMIUM}; set CHROMIUM to one to run the browser tests"
)


def tide_tables() -> MCPServer:
    """A server with one tool."""
    server = MCPServer("tides")

    @server.tool(title="High water")
    def high_water(port: str, days: int = 1) -> str:  # pyright: ignore[reportUnusedFunction]
        """When the water stands highest in a port."""
        return f"{port}: 04:12 and 16:37, for {days} days <b>unmarked</b>"

    return server


@pytest.fixture(scope="module")
def upstream() -> Generator[str]:
    """The URL of a running MCP server."""
    listener = free_socket()
    app = tide_tables().streamable_http_app()
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", ws="none", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}/mcp"
    server.should_exit = True
    thread.join(10)
    listener.close()


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Generator[Installation]:
    """A bare hub, as `entrepot up` starts it."""
    with installed(tmp_path_factory.mktemp("home")) as installation:
        yield installation


@pytest.fixture(scope="module")
def chromium() -> Generator[Browser]:
    """A headless browser."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


def test_from_the_first_link_to_signing_out(chromium: Browser, hub: Installation, upstream: str) -> None:
    page = chromium.new_context(locale="en").new_page()
    page.set_default_timeout(PATIENCE)
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda message: complaints.append(message.text))
    page.goto(f"{hub.url}/keys?all=yes")
    assert page.url == f"{hub.url}/sign-in?next=/keys%3Fall%3Dyes"
    page.goto(hub.json("sign-in")["url"])
    press(page, "Sign in")
    heading(page, "Overview")
    adds_a_server(page, upstream)
    tries_a_tool(page)
    creates_a_key(page)
    reads_the_audit(page)
    switches_language_and_leaves(page)
    page.goto(f"{hub.url}/servers")
    assert page.url.startswith(f"{hub.url}/sign-in")
    assert complaints == []
    page.context.close()


def adds_a_server(page: Page, upstream: str) -> None:
    """By URL, with a look at what would be exposed before it is stored."""
    visit(page, "Servers")
    page.get_by_role("link", name="Add a server").first.click()
    page.get_by_label("Name").fill("tides")
    page.get_by_label("URL").fill(upstream)
    press(page, "Look first")
    heading(page, "This is what would be added")
    expect(page.get_by_text("high_water").first).to_be_visible(timeout=PATIENCE)
    press(page, "Add it")
    heading(page, "tides")
    expect(page.locator("h1 .state-ready")).to_be_visible(timeout=PATIENCE)


def tries_a_tool(page: Page) -> None:
    """Its argument in, its answer out, and nothing of the answer is markup."""
    page.locator("summary", has_text="high_water").click()
    page.get_by_role("link", name="Try it").click()
    page.get_by_label("port").fill("宁波")
    press(page, "Call the tool")
    heading(page, "It answered")
    expect(page.get_by_text("宁波: 04:12 and 16:37, for 1 days <b>unmarked</b>").first).to_be_visible()


def creates_a_key(page: Page) -> None:
    """The token is shown once."""
    visit(page, "Keys")
    page.get_by_label("Name").fill("night shift")
    press(page, "Create key")
    heading(page, "The key night shift is ready")
    assert page.locator("#token").inner_text().startswith("ek_")
    visit(page, "Keys")
    assert page.locator("#token").count() == 0
    expect(page.get_by_role("button", name="Revoke the key night shift")).to_be_visible()


def reads_the_audit(page: Page) -> None:
    """The call stands there, and the chain is whole."""
    visit(page, "Audit")
    page.get_by_label("Server").fill("tides")
    press(page, "Search")
    row = page.get_by_role("row").filter(has_text="tool:call").filter(has_text="high_water")
    expect(row.get_by_text("ok")).to_be_visible(timeout=PATIENCE)
    press(page, "Verify the chain")
    expect(page.get_by_text("The chain is whole.")).to_be_visible(timeout=PATIENCE)


def switches_language_and_leaves(page: Page) -> None:
    """The same pages in Chinese, and out."""
    page.get_by_role("link", name="中文").click()
    heading(page, "审计")
    visit(page, "服务器")
    heading(page, "服务器")
    press(page, "退出")
    heading(page, "登录")


def visit(page: Page, name: str) -> None:
    """By the navigation."""
    page.locator("nav.aisle").get_by_role("link", name=name, exact=True).click()


def press(page: Page, name: str) -> None:
    """A button of that name."""
    page.get_by_role("button", name=name, exact=True).first.click()


def heading(page: Page, name: str) -> None:
    """Wait until a heading says that."""
    page.get_by_role("heading", name=name).first.wait_for(timeout=PATIENCE)
