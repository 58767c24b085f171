"""What servers say is hostile: nothing of it becomes markup, a script, a foreign request or a disguise."""

from __future__ import annotations

import json
import os
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import httpx
import pytest

from registry.markup import reveal, said
from tests.support.admin import ScriptedHub, server

ALLOWED = {"p", "a", "strong", "em", "ul", "ol", "li", "code", "pre", "br", "hr", "blockquote"} | {
    "table",
    "thead",
    "tbody",
    "tr",
    "th",
    "td",
}
ATTRIBUTES = {"href", "rel", "title", "class", "start"}
OWN = (
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "[click](javascript:alert(1))",
    "[click](JaVaScRiPt:alert(1))",
    "[click](data:text/html;base64,PHNjcmlwdD4=)",
    "[click](vbscript:x)",
    "![](https://tracker.example/pixel.png)",
    '<https://example.com/"onmouseover="alert(1)>',
    "<svg/onload=alert(1)>",
    "{{ 7 * 7 }}{% raw %}",
    "</textarea></pre></title><script>alert(1)</script>",
    "\u202egnp.exe",
    "a\u200bdmin",
    "\x00\x1b[31m",
    "\ud800",
    "| a | b |\n| --: | :-: |\n| 1 | 2 |",
    "`" * 5000,
    "[" * 5000,
    "> " * 3000,
)


def naughty() -> list[str]:
    """The big list of naughty strings where it is at hand, and our own."""
    folder = os.environ.get("ENTREPOT_TEST_DATA", "")
    path = Path(folder) / "naughty" / "blns.json"
    listed: list[str] = json.loads(path.read_text()) if folder and path.exists() else []
    return [*listed, *OWN]


class Reader(HTMLParser):
    """Collects every tag and attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def test_descriptions_hold_only_harmless_tags_and_web_links() -> None:
    for text in naughty():
        reader = Reader()
        reader.feed(str(said(text)))
        for tag, attributes in reader.tags:
            assert tag in ALLOWED, text
            assert set(attributes) <= ATTRIBUTES, text
            if tag == "a":
                assert (attributes["href"] or "").lower().startswith(("http://", "https://")), text
                assert attributes["rel"] == "noopener noreferrer nofollow"


def test_characters_that_disguise_are_shown() -> None:
    assert reveal("\u202egnp.exe a\u200bb\x00") == "[U+202E]gnp.exe a[U+200B]b[U+0000]"
    assert reveal("上海 · ok\n\t") == "上海 · ok\n\t"


@pytest.mark.anyio
async def test_a_hostile_server_changes_no_page(browser: httpx.AsyncClient, scripted: ScriptedHub) -> None:
    plain = Reader()
    plain.feed((await browser.get("/servers/weather")).text)
    scripts = sum(tag == "script" for tag, _ in plain.tags)
    everything = "\n\n".join(text for text in naughty() if len(text) < 1000 and text != "\ud800")
    tool: dict[str, Any] = {
        "name": everything[:300],
        "title": everything,
        "description": everything,
        "inputSchema": {
            "type": "object",
            "properties": {everything[:200]: {"type": "string", "description": everything}},
        },
    }
    scripted.definitions = [tool, {"name": "evil", "description": "<script>", "inputSchema": tool["inputSchema"]}]
    scripted.servers = [server("weather", everything, "down", reason=everything, description=everything)]
    scripted.records = [scripted.records[0] | {"subject": everything, "target": everything, "event": everything}]
    scripted.result = {"content": [
        {"type": "text", "text": everything},
        {"type": "image", "mimeType": "image/svg+xml", "data": "PHN2Zy8+"},
        {"type": "image", "mimeType": "image/png", "data": '"><script>alert(1)</script>'},
        {"type": "resource_link", "uri": "javascript:alert(1)", "name": everything},
    ], "structuredContent": {"x": everything}, "isError": True}  # fmt: skip
    answers = [await browser.get(path) for path in ("/", "/servers", "/servers/weather", "/audit", "/connect")]
    answers.append(
        await browser.post(
            "/servers/weather/try", data={"csrf": "csrf-of-signed-in", "tool": "evil", "arg.x": everything}
        )
    )
    for answer in answers:
        assert answer.status_code == 200
        reader = Reader()
        reader.feed(answer.text)
        assert sum(tag == "script" for tag, _ in reader.tags) == scripts
        for tag, attributes in reader.tags:
            assert not any(name.startswith("on") for name in attributes), (tag, attributes)
            for name in ("href", "src", "action"):
                value = attributes.get(name) or "/"
                assert value.startswith(("/", "#", "?", "https://", "http://")), (tag, value)
