"""Which tools a run has, under which names, and which of them may be asked again after a crash."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from agents.manifest import Manifest, matches, servers_of
from agents.wire.hub import HubAdmin, HubFace
from agents.wire.shapes import mapping
from hub.errors import HubError, Unavailable
from hub.identity.principal import Principal
from hub.identity.scopes import narrowed

AUTO = "auto"


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool of a run: where it lives, and the name that the agent sees."""

    server: str
    name: str
    shown: str
    definition: dict[str, Any]

    @property
    def address(self) -> str:
        """`server/tool`, as manifests write it."""
        return f"{self.server}/{self.name}"

    @property
    def repeatable(self) -> bool:
        """Whether calling it twice does no harm, by its own word."""
        notes = mapping(self.definition.get("annotations"))
        return bool(notes.get("readOnlyHint") or notes.get("idempotentHint"))


@dataclass(frozen=True, slots=True)
class Toolbox:
    """All tools of a run, the servers that could not be asked with the reason, and the model."""

    tools: tuple[Tool, ...]
    missing: dict[str, str]
    model: str
    small: bool = False
    """Whether the model is one that chooses better than it writes."""
    embedder: str = ""
    """Embedding model that the run may use; empty when there is none."""

    def find(self, name: str) -> Tool | None:
        """By the shown name, or by `server/tool`."""
        return next((tool for tool in self.tools if name in (tool.shown, tool.address)), None)

    def missing_reason(self, name: str) -> str:
        """Why a tool that the manifest names is not there."""
        server = name.partition("/")[0]
        return self.missing.get(server, "")

    def record(self) -> dict[str, Any]:
        """As JSON, for the journal."""
        tools = [[tool.server, tool.name, tool.shown, tool.definition] for tool in self.tools]
        return {"tools": tools, "missing": self.missing} | {
            "model": self.model,
            "small": self.small,
            "embedder": self.embedder,
        }

    @staticmethod
    def restore(record: dict[str, Any]) -> Toolbox:
        """From the journal."""
        return Toolbox(
            tuple(Tool(*entry) for entry in record["tools"]),
            record["missing"],
            record["model"],
            bool(record.get("small")),
            record.get("embedder", ""),
        )


def scopes_for(manifest: Manifest, caller: Iterable[str]) -> list[str]:
    """What a run may do: what the manifest lists and the caller has, both."""
    wanted = {"models" if manifest.model == AUTO else f"models:{manifest.model}"}
    for pattern in manifest.tools:
        # A trailing star is not a word of scopes; the border holds the run to the pattern itself.
        server, _, tool = pattern.partition("/")
        wanted.add(f"call:{server}" if not tool or "*" in tool else f"call:{server}/{tool}")
    holder = Principal("run", "run", "run", frozenset(caller))
    return sorted(narrowed(wanted, holder))


async def collect(manifest: Manifest, hub: HubFace, admin: HubAdmin) -> Toolbox:
    """Ask the hub once for all that the manifest names. What is off or denied is noted, not raised."""
    found: list[tuple[str, dict[str, Any]]] = []
    missing: dict[str, str] = {}
    for server in servers_of(manifest.tools):
        try:
            listed = await hub.tools(server)
        except HubError as error:
            missing[server] = error.message
            continue
        found += [
            (server, tool)
            for tool in listed
            if any(matches(pattern, server, tool["name"]) for pattern in manifest.tools)
        ]
    counts = Counter(tool["name"] for _, tool in found)
    try:
        model = await pick_model(manifest.model, hub)
    except HubError:
        # It may be there by the time it is asked; if not, that request says why.
        model = AUTO
    tools = tuple(
        Tool(server, tool["name"], tool["name"] if counts[tool["name"]] == 1 else f"{server}__{tool['name']}", tool)
        for server, tool in found
    )
    return Toolbox(tools, missing, model, await _is_small(model, admin), await _embedder(hub))


async def _is_small(model: str, admin: HubAdmin) -> bool:
    """A model that cannot choose tools itself is taken for too small to write freely."""
    try:
        return not await admin.has_native_tools(model)
    except HubError:
        return False


async def _embedder(hub: HubFace) -> str:
    try:
        return next(iter(await hub.model_names("embedding")), "")
    except HubError:
        return ""


async def pick_model(wanted: str, hub: HubFace) -> str:
    """The model's name; for `auto` the first chat model that the run may use. Raises `HubError`."""
    if wanted != AUTO:
        return wanted
    for name in await hub.model_names():
        return name
    raise Unavailable(
        "There is no chat model that this agent may use for you: "
        "none is registered, or your key lacks the scope `models`."
    )
