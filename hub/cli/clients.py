"""Ready-to-paste configurations of the common MCP clients."""

from __future__ import annotations

import json
from typing import Any


def configurations(url: str, key: str = "YOUR_KEY", *, open_hub: bool = False) -> list[tuple[str, str, str]]:
    """Per client: its name, where the text belongs, and the text."""
    endpoint = f"{url}/mcp"
    headers: dict[str, Any] = {} if open_hub else {"headers": {"Authorization": f"Bearer {key}"}}
    bearer = "" if open_hub else f' --header "Authorization: Bearer {key}"'
    remote = ["-y", "mcp-remote", endpoint, *([] if open_hub else ["--header", "Authorization:${ENTREPOT_KEY}"])]
    desktop: dict[str, Any] = {"command": "npx", "args": remote}
    if not open_hub:
        # A header with a space does not survive the argument quoting of some versions, an environment value does.
        desktop["env"] = {"ENTREPOT_KEY": f"Bearer {key}"}
    return [
        ("VS Code", ".vscode/mcp.json", _json({"servers": {"entrepot": {"type": "http", "url": endpoint, **headers}}})),
        ("Claude Desktop", "claude_desktop_config.json", _json({"mcpServers": {"entrepot": desktop}})),
        ("Cursor", ".cursor/mcp.json", _json({"mcpServers": {"entrepot": {"url": endpoint, **headers}}})),
        ("Claude Code", "terminal", f"claude mcp add --transport http entrepot {endpoint}{bearer}"),
    ]


def _json(value: Any) -> str:
    return json.dumps(value, indent=2)
