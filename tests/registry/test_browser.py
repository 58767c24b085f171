# ruff: noqa: E501 -- rows of data read best as rows
"""The pages in a real browser: no console error, no policy violation, keyboard and phone, without script, and axe."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from playwright.sync_api import Browser, Page, sync_playwright
from starlette.applications import Starlette

from hub.audit.recorder import Audit
from hub.inprocess import InProcess
from hub.settings import Settings
from registry.part import part
from tests.registry.conftest import Handed
from tests.support.admin import ScriptedHub, ScriptedSessions
from tests.support.nodejs import FOLDER

CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
AXE = Path(os.environ.get("AXE_CORE", FOLDER / "node_modules/axe-core/axe.min.js"))
"""Installed with the other npm packages of the tests: `python -m tests.support.nodejs`."""
PATHS = ("/", "/servers", "/servers/weather", "/servers/weather/try?tool=forecast", "/servers/new", "/agents", "/agents/librarian", "/runs", "/runs/run_7k2m", "/models", "/models/new", "/models/local", "/connect", "/keys", "/audit", "/logs")  # fmt: skip

pytestmark = pytest.mark.skipif(
    not Path(CHROMIUM).exists(), reason=f"no Chromium at {CHROMIUM}; set CHROMIUM to one to run the browser tests"
)


@dataclass(frozen=True)
class Site:
    """The pages on a real port."""

    url: str
    hub: ScriptedHub
    sessions: ScriptedSessions


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Generator[Site]:
    """The registry behind uvicorn, in a thread, on a free port."""
    hub, sessions = ScriptedHub(), ScriptedSessions()
    home = tmp_path_factory.mktemp("home")
    audit = Audit(home / "audit", "hub-0")
    handed = Handed(Settings(home=home), InProcess(hub.app()), sessions, audit)
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(Starlette(routes=part.routes(handed)), log_level="error", lifespan="off", ws="none")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    yield Site(f"http://127.0.0.1:{listener.getsockname()[1]}", hub, sessions)
    server.should_exit = True
    thread.join(10)
    listener.close()
    audit.close()


@pytest.fixture(scope="module")
def chromium() -> Generator[Browser]:
    """One headless browser for all tests here."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


def open_page(chromium: Browser, site: Site, **wishes: Any) -> Page:
    """A signed-in page that fails the test by what it complains about: `page.complaints`."""
    context = chromium.new_context(**wishes)
    context.add_cookies([{"name": site.sessions.cookie.name, "value": "signed-in", "url": site.url}])
    return context.new_page()


@pytest.mark.parametrize(("language", "scheme", "width"), [("en", "light", 1280), ("zh", "dark", 390)])
def test_pages_are_quiet_and_fit(chromium: Browser, site: Site, language: str, scheme: Any, width: int) -> None:
    page = open_page(chromium, site, locale=language, color_scheme=scheme, viewport={"width": width, "height": 800})
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    for path in PATHS:
        page.goto(site.url + path)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), path
    assert complaints == []
    page.context.close()


@pytest.mark.skipif(not AXE.exists(), reason="axe-core is not installed: python -m tests.support.nodejs")
@pytest.mark.parametrize(("language", "scheme", "width"), [("en", "light", 1280), ("zh", "dark", 390)])
def test_pages_are_accessible(chromium: Browser, site: Site, language: str, scheme: Any, width: int) -> None:
    page = open_page(chromium, site, locale=language, color_scheme=scheme, viewport={"width": width, "height": 800})
    checker = AXE.read_text()
    for path in PATHS:
        page.goto(site.url + path)
        page.evaluate(checker)
        found: list[dict[str, Any]] = page.evaluate("axe.run().then(found => found.violations)")
        serious = [
            (each["id"], [node["html"][:160] for node in each["nodes"]][:3])
            for each in found
            if each["impact"] in ("serious", "critical")
        ]
        assert serious == [], path
    page.context.close()


def test_the_keyboard_reaches_the_content_first(chromium: Browser, site: Site) -> None:
    page = open_page(chromium, site)
    page.goto(site.url + "/servers")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    page.context.close()


@pytest.mark.parametrize("script", [True, False])
def test_a_tool_is_tried_with_and_without_script(chromium: Browser, site: Site, script: bool) -> None:
    page = open_page(chromium, site, java_script_enabled=script, locale="en")
    page.goto(site.url + "/servers/weather/try?tool=forecast")
    page.get_by_label("city").fill("上海")
    page.get_by_role("button", name="Call the tool").click()
    page.get_by_role("heading", name="It answered").wait_for()
    assert page.get_by_role("img", name="Image that the tool returned").is_visible()
    assert page.get_by_label("city").input_value() == "上海"
    page.context.close()


def test_signing_in_by_the_link_and_out_again(chromium: Browser, site: Site) -> None:
    site.sessions.links.add("link")
    page = chromium.new_context(locale="en").new_page()
    page.goto(site.url + "/sign-in?token=link")
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("heading", name="Overview").wait_for()
    page.get_by_role("link", name="中文").click()
    page.get_by_role("heading", name="总览").wait_for()
    page.get_by_role("button", name="退出").click()
    page.get_by_role("heading", name="登录").wait_for()
    site.sessions.cookies.add("signed-in")
    page.context.close()


def test_a_run_is_followed_until_it_ends(chromium: Browser, site: Site) -> None:
    page = open_page(chromium, site, locale="en")
    page.goto(site.url + "/runs/run_live")
    assert page.get_by_text("At work.").is_visible()
    live = site.hub.runs[0]
    site.hub.runs[0] = live | {"state": "done", "output": {"answer": "Ten years."}}
    page.get_by_text("Ten years.").first.wait_for(timeout=15_000)
    assert page.locator("[data-live]").count() == 0
    site.hub.runs[0] = live
    page.context.close()
