"""A server with one of everything MCP knows, in both eras: what the conformance suite's scenarios ask for by name.

The names and texts are the suite's. Questions to the client go in band to a legacy client and as `input_required`
to a modern one, out of the same tool.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import anyio
import mcp_types as types
from mcp.server.lowlevel.server import NotificationOptions, Server
from mcp.server.models import InitializationOptions
from mcp.server.request_state import RequestStateBoundary, RequestStateSecurity
from mcp.server.session import ServerSession
from mcp.server.subscriptions import (
    InMemorySubscriptionBus,
    ListenHandler,
    PromptsListChanged,
    ResourceUpdated,
    ToolsListChanged,
)
from mcp.shared.exceptions import MCPError
from mcp.shared.message import ServerMessageMetadata
from starlette.applications import Starlette

from tests.support.everything_tools import NO_ARGUMENTS, TOOLS, Answer, form, picture

Context = Any
"""`ServerRequestContext`, generic in ways that say nothing here."""

MODERN = "2026-07-28"
WATCHED = "test://watched-resource"


class _Server(Server[Any]):
    """The SDK's server, which tells of list changes also in the legacy eras."""

    def create_initialization_options(
        self,
        notification_options: NotificationOptions | None = None,
        experimental_capabilities: dict[str, dict[str, Any]] | None = None,
        extensions: dict[str, dict[str, Any]] | None = None,
    ) -> InitializationOptions:
        """As the SDK's, with list changes promised."""
        told = notification_options or NotificationOptions(True, True, True)
        return super().create_initialization_options(told, experimental_capabilities, extensions)


@dataclass
class Everything:
    """One such server. `started` and `cancelled` are set by `wait`; `released` lets `*_later` go on.

    `calls` counts what was really called.
    """

    name: str = "everything"
    bus: InMemorySubscriptionBus = field(default_factory=InMemorySubscriptionBus)
    sessions: dict[str, ServerSession] = field(default_factory=dict[str, ServerSession])
    extra_tool: bool = False
    extra_prompt: bool = False
    started: anyio.Event = field(default_factory=anyio.Event)
    cancelled: anyio.Event = field(default_factory=anyio.Event)
    released: anyio.Event = field(default_factory=anyio.Event)
    calls: list[str] = field(default_factory=list[str])
    metas: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])

    def app(self, *, json: bool = False) -> Starlette:
        """The ASGI app; its endpoint is `/mcp`. Its lifespan has to run."""
        return self.server().streamable_http_app(json_response=json)

    def server(self) -> Server[Any]:
        """The server, for any transport."""
        server = _Server(
            self.name,
            version="1.0.0",
            on_list_tools=self._list_tools,
            on_call_tool=self._call_tool,
            on_list_resources=self._list_resources,
            on_list_resource_templates=self._list_templates,
            on_read_resource=self._read,
            on_subscribe_resource=self._subscribed,
            on_unsubscribe_resource=self._subscribed,
            on_subscriptions_listen=ListenHandler(self.bus),
            on_list_prompts=self._list_prompts,
            on_get_prompt=self._get_prompt,
            on_completion=self._complete,
        )
        server.add_request_handler("logging/setLevel", types.SetLevelRequestParams, self._subscribed)
        server.middleware.append(self._remember)
        server.middleware.append(RequestStateBoundary(RequestStateSecurity.ephemeral(), default_audience=self.name))
        return server

    async def _remember(self, ctx: Context, call_next: Any) -> Any:
        session = ctx.request.headers.get("mcp-session-id") if ctx.request is not None else "stdio"
        if session and ctx.protocol_version != MODERN:
            self.sessions[session] = ctx.session
        return await call_next(ctx)

    async def ask(
        self, ctx: Context, params: types.CallToolRequestParams, asked: Mapping[str, types.InputRequest]
    ) -> dict[str, Any] | types.InputRequiredResult:
        """Answers to questions: now from a legacy client, in a later round from a modern one."""
        if ctx.protocol_version == MODERN:
            answers = dict(params.input_responses or {})
            if set(asked) <= set(answers):
                return answers
            return types.InputRequiredResult(input_requests=dict(asked))
        kinds: dict[type, Any] = {
            types.ElicitRequest: types.ElicitResult,
            types.CreateMessageRequest: types.CreateMessageResult,
        }
        answers: dict[str, Any] = {}
        for key, request in asked.items():
            answers[key] = await ctx.session.send_request(
                request,
                kinds.get(type(request), types.ListRootsResult),
                # On the stream of the request that it is asked for.
                metadata=ServerMessageMetadata(related_request_id=ctx.request_id),
            )
        return answers

    async def log(self, ctx: Context, said: str) -> None:
        """A log message on the request's stream; to a modern client only when the request asks for it."""
        asked = "io.modelcontextprotocol/logLevel" in (ctx.meta or {})
        if ctx.protocol_version != MODERN or asked:
            params = types.LoggingMessageNotificationParams(level="info", data=said)
            await ctx.session.send_notification(types.LoggingMessageNotification(params=params), ctx.request_id)

    async def tell_all(self, notification: Any) -> None:
        """Tell every legacy session something; those that are gone are forgotten."""
        for key, session in list(self.sessions.items()):
            try:
                await session.send_notification(notification)
            except (anyio.ClosedResourceError, anyio.BrokenResourceError):
                del self.sessions[key]

    async def change_tools(self) -> None:
        """Add a tool or take it away, and tell everybody."""
        self.extra_tool = not self.extra_tool
        await self.bus.publish(ToolsListChanged())
        await self.tell_all(types.ToolListChangedNotification())

    async def change_prompts(self) -> None:
        """Add a prompt or take it away, and tell everybody."""
        self.extra_prompt = not self.extra_prompt
        await self.bus.publish(PromptsListChanged())
        await self.tell_all(types.PromptListChangedNotification())

    async def update(self, uri: str) -> None:
        """Tell those who follow a resource that it changed."""
        await self.bus.publish(ResourceUpdated(uri=uri))
        params = types.ResourceUpdatedNotificationParams(uri=uri)
        await self.tell_all(types.ResourceUpdatedNotification(params=params))

    async def _list_tools(self, _ctx: Context, _params: Any) -> types.ListToolsResult:
        tools = [one for one, _ in TOOLS.values()]
        if self.extra_tool:
            tools.append(types.Tool(name="test_added_tool", description="Comes and goes.", input_schema=NO_ARGUMENTS))
        return types.ListToolsResult(tools=tools)

    async def _call_tool(self, ctx: Context, params: types.CallToolRequestParams) -> Answer:
        if params.name not in TOOLS:
            raise MCPError(types.INVALID_PARAMS, f"Unknown tool: {params.name}")
        self.calls.append(params.name)
        self.metas.append(dict(ctx.meta or {}))
        return await TOOLS[params.name][1](self, ctx, params)

    async def _list_resources(self, _ctx: Context, _params: Any) -> types.ListResourcesResult:
        return types.ListResourcesResult(
            resources=[
                types.Resource(uri="test://static-text", name="text", description="Words.", mime_type="text/plain"),
                types.Resource(uri="test://static-binary", name="picture", description="A dot.", mime_type="image/png"),
                types.Resource(uri=WATCHED, name="watched", description="It changes.", mime_type="text/plain"),
            ]
        )

    async def _list_templates(self, _ctx: Context, _params: Any) -> types.ListResourceTemplatesResult:
        template = types.ResourceTemplate(
            uri_template="test://template/{id}/data", name="data", description="By id.", mime_type="application/json"
        )
        return types.ListResourceTemplatesResult(resource_templates=[template])

    async def _read(self, _ctx: Context, params: types.ReadResourceRequestParams) -> types.ReadResourceResult:
        uri = params.uri
        if uri == "test://static-binary":
            return types.ReadResourceResult(
                contents=[types.BlobResourceContents(uri=uri, mime_type="image/png", blob=picture())]
            )
        words = {"test://static-text": "This is the content of the static text resource.", WATCHED: "Watched."}.get(uri)
        kind = "text/plain"
        if words is None and uri.startswith("test://template/") and uri.endswith("/data"):
            found = uri.removeprefix("test://template/").removesuffix("/data")
            words = f'{{"id":"{found}","templateTest":true,"data":"Data for ID: {found}"}}'
            kind = "application/json"
        if words is None:
            raise MCPError(types.INVALID_PARAMS, "Resource not found", {"uri": uri})
        return types.ReadResourceResult(contents=[types.TextResourceContents(uri=uri, mime_type=kind, text=words)])

    async def _subscribed(self, _ctx: Context, _params: Any) -> types.EmptyResult:
        return types.EmptyResult()

    async def _list_prompts(self, _ctx: Context, _params: Any) -> types.ListPromptsResult:
        def prompt(name: str, *arguments: str) -> types.Prompt:
            needed = [types.PromptArgument(name=one, description=one, required=True) for one in arguments]
            return types.Prompt(name=name, description=f"The suite's {name}.", arguments=needed)

        prompts = [
            prompt("test_simple_prompt"),
            prompt("test_prompt_with_arguments", "arg1", "arg2"),
            prompt("test_prompt_with_embedded_resource", "resourceUri"),
            prompt("test_prompt_with_image"),
            prompt("test_input_required_result_prompt"),
        ]
        return types.ListPromptsResult(prompts=prompts + ([prompt("test_added_prompt")] if self.extra_prompt else []))

    async def _get_prompt(
        self, ctx: Context, params: types.GetPromptRequestParams
    ) -> types.GetPromptResult | types.InputRequiredResult:
        given = params.arguments or {}
        content: list[Any]
        if params.name == "test_simple_prompt":
            content = [types.TextContent(text="This is a simple prompt for testing.")]
        elif params.name == "test_prompt_with_arguments":
            said = f"Prompt with arguments: arg1='{given.get('arg1')}', arg2='{given.get('arg2')}'"
            content = [types.TextContent(text=said)]
        elif params.name == "test_prompt_with_embedded_resource":
            inside = types.TextResourceContents(
                uri=given["resourceUri"], mime_type="text/plain", text="Embedded resource content for testing."
            )
            content = [types.EmbeddedResource(resource=inside)]
            content.append(types.TextContent(text="Please process the embedded resource above."))
        elif params.name == "test_prompt_with_image":
            content = [types.ImageContent(data=picture(), mime_type="image/png")]
            content.append(types.TextContent(text="Please analyze the image above."))
        elif params.name == "test_input_required_result_prompt":
            question = form("What context should the prompt use?", {"context": {"type": "string"}})
            answers = await self.ask(ctx, params, {"user_context": question})  # pyright: ignore[reportArgumentType] - both carry answers
            if isinstance(answers, types.InputRequiredResult):
                return answers
            content = [types.TextContent(text=f"Use {answers['user_context'].content}")]
        else:
            raise MCPError(types.INVALID_PARAMS, f"Unknown prompt: {params.name}")
        return types.GetPromptResult(messages=[types.PromptMessage(role="user", content=one) for one in content])

    async def _complete(self, _ctx: Context, params: types.CompleteRequestParams) -> types.CompleteResult:
        values = [one for one in ("test-one", "test-two", "paris") if one.startswith(params.argument.value)]
        return types.CompleteResult(completion=types.Completion(values=values, total=len(values), has_more=False))
