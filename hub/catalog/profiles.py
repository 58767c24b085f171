"""What MCP clients cannot take, one row a client: the only place where the hub knows clients by name.

A profile is chosen by the name that a client gives itself (`clientInfo.name`), by `?client=NAME` in the URL, or by its
collection; it shortens and rewrites lists and withholds nothing: what a list leaves out is callable as before. A row
states only what is known of a client, with where it is known from. An unknown client gets what everybody gets.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

Dialect = Literal["no-root-unions", "no-references", "gemini"]
"""Of JSON Schema: without `anyOf`, `oneOf` and `allOf` at an input's root; references written out; Gemini's subset."""

Gap = Literal["output-schema", "list-changed"]
"""What a client does wrongly or not at all: results of a tool that declares their schema; changes of a list."""


@dataclass(frozen=True, slots=True)
class Profile:
    """One client. `names` are patterns of `clientInfo.name` in lower case.

    `most_tools` is 0 for no limit; `longest_name` counts what is left for a tool's name once the client has put its own
    prefix before it, for a server that it calls `entrepot`. 0 is no limit beside the protocol's.
    """

    name: str
    title: str
    names: tuple[str, ...] = ()
    most_tools: int = 0
    longest_name: int = 0
    dialects: tuple[Dialect, ...] = ()
    gaps: tuple[Gap, ...] = ()
    source: str = ""


ANY = Profile("any", "Any other client", source="the hub's names leave room for the longest-winded common client")

TABLE: tuple[Profile, ...] = (
    ANY,
    Profile(
        "claude-code",
        "Claude Code",
        ("claude-code*", "claude code*"),
        # `mcp__entrepot__` stands in front, 64 characters in all.
        longest_name=49,
        dialects=("no-root-unions",),
        gaps=("list-changed",),
        source="anthropics/claude-code#19882, #2412 (64 characters; one long name breaks the session);"
        " #5973, #45106 (a union at the root breaks it too); #13646, #79826 (lists are read once)",
    ),
    Profile(
        "claude-desktop",
        "Claude Desktop and claude.ai",
        ("claude-ai*", "claude desktop*", "claude-desktop*"),
        longest_name=49,
        gaps=("list-changed",),
        source="sparfenyuk/mcp-proxy#45 (64 characters with the server's name); anthropics/claude-code#50339,"
        " anthropics/claude-ai-mcp#45 (lists are read once)",
    ),
    Profile(
        "vscode",
        "VS Code with GitHub Copilot",
        ("visual studio code*", "vs code*", "visual-studio-code*", "vscode*", "github-copilot*", "copilot*"),
        most_tools=128,
        # `mcp_entrepot_` stands in front, 64 characters in all.
        longest_name=51,
        source="microsoft/vscode#258890, #255585 (128 tools), #243602 (64 characters)",
    ),
    Profile(
        "copilot-jetbrains",
        "GitHub Copilot for JetBrains",
        ("*jetbrains*", "*intellij*"),
        most_tools=128,
        longest_name=49,
        source="microsoft/copilot-intellij-feedback#1842 (128 tools); names as for VS Code",
    ),
    Profile(
        "cursor",
        "Cursor",
        ("cursor*",),
        most_tools=80,
        # 60 characters with the server's name and what stands between.
        longest_name=49,
        gaps=("output-schema", "list-changed"),
        source="Snowflake-Labs/mcp#77 (80 tools); awslabs/mcp#1283, ComposioHQ/composio#2788 (60 characters);"
        " WordPress/mcp-adapter#37 (refuses results without structured content); cursor/cursor#2980 (lists)",
    ),
    Profile(
        "windsurf",
        "Windsurf",
        ("windsurf*", "codeium*"),
        most_tools=100,
        longest_name=49,
        source="docs.windsurf.com/windsurf/cascade/mcp (100 tools at any time)",
    ),
    Profile(
        "codex",
        "OpenAI Codex",
        ("codex*",),
        # `mcp__entrepot__` stands in front, 64 characters in all.
        longest_name=49,
        dialects=("no-root-unions",),
        source="openai/codex#9266 (what many tools cost); OpenAI's functions: 64 characters, an object at the root",
    ),
    Profile(
        "gemini",
        "Gemini CLI",
        ("gemini*",),
        # `mcp_entrepot_` stands in front, 64 characters in all, a letter or an underscore first.
        longest_name=51,
        dialects=("no-root-unions", "no-references", "gemini"),
        source="google-gemini/gemini-cli#13326 ($defs); mcp-router/mcp-router#176 (names, keywords);"
        " cline/cline#7339 (arrays need items)",
    ),
)

PROFILES: Mapping[str, Profile] = {profile.name: profile for profile in TABLE}


@lru_cache(maxsize=1024)
def of_client(name: str) -> Profile:
    """The profile of a client by the name that it gives itself."""
    told = name.strip().lower()[:200]
    if told:
        for profile in TABLE:
            if any(fnmatch.fnmatchcase(told, pattern) for pattern in profile.names):
                return profile
    return ANY
