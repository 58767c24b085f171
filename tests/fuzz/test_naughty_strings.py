"""Strings that break programs reach a server as written and come back as answered, in both eras."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.fuzz import values
from tests.support.hub import META, MODERN, Era, events, modern_headers, running_hub

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("era", ["modern", "legacy"])
async def test_naughty_strings_are_relayed_byte_for_byte(era: Era, tmp_path: Path) -> None:
    words = list(dict.fromkeys((*values.ODD_WORDS, *values.naughty())))
    async with running_hub(tmp_path) as running:
        behind = await running.everything()
        call: dict[str, object] = {"name": "echo", "arguments": {"text": ""}}
        headers = modern_headers("tools/call", call) | running.bearer() if era == "modern" else await running.session()
        about: dict[str, object] = {f"{META}protocolVersion": MODERN, f"{META}clientCapabilities": {}}
        meta = f',"_meta":{json.dumps(about)}' if era == "modern" else ""
        for number, word in enumerate(words):
            # Escaped or not is the caller's choice, and stays so.
            text = json.dumps(word, ensure_ascii=number % 2 == 0)
            body = '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","arguments":{"text": %s}%s}}'
            answer = await running.http.post("/mcp", content=(body % (text, meta)).encode(), headers=headers)
            assert events(answer)[-1]["result"]["structuredContent"]["text"] == word, word
            assert b'{"text": %b}' % text.encode() in behind.recorded.asked("tools/call")[-1].body, word
