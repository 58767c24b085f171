"""The tools of the server with everything, under the names that the conformance suite calls; see `everything.py`."""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

import anyio
import mcp_types as types
from mcp.shared.exceptions import MCPError

if TYPE_CHECKING:
    from tests.support.everything import Everything

Answer = types.CallToolResult | types.InputRequiredResult
Params = types.CallToolRequestParams
Handler = Callable[["Everything", Any, Params], Awaitable[Answer]]

NO_ARGUMENTS: dict[str, Any] = {"type": "object", "properties": {}}
MISSING_CAPABILITY = -32021


def picture() -> str:
    """A red dot as PNG, in base64."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)
    pixels = zlib.compress(b"\0\xff\0\0")
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    return base64.b64encode(png).decode()


def sound() -> str:
    """Eight silent samples as WAV, in base64."""
    head = b"WAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 1, 8000, 8000, 1, 8) + b"data" + struct.pack("<I", 8)
    return base64.b64encode(b"RIFF" + struct.pack("<I", len(head) + 8) + head + b"\x80" * 8).decode()


def text(said: str, *, error: bool = False) -> types.CallToolResult:
    """A tool's answer in words."""
    return types.CallToolResult(content=[types.TextContent(text=said)], is_error=error)


def form(message: str, properties: Mapping[str, Any], required: list[str] | None = None) -> types.ElicitRequest:
    """A question to the user."""
    schema = {"type": "object", "properties": dict(properties), "required": required or list(properties)}
    return types.ElicitRequest(params=types.ElicitRequestFormParams(message=message, requested_schema=schema))


def sampling(prompt: str, most: int = 100) -> types.CreateMessageRequest:
    """A question to the client's model."""
    message = types.SamplingMessage(role="user", content=types.TextContent(text=prompt))
    return types.CreateMessageRequest(params=types.CreateMessageRequestParams(messages=[message], max_tokens=most))


TOOLS: dict[str, tuple[types.Tool, Handler]] = {}
"""Filled by `tool` below, at import."""


def tool(name: str, schema: dict[str, Any] = NO_ARGUMENTS, **more: Any) -> Callable[[Handler], Handler]:
    """Put a tool under the suite's name for it."""

    def put(handler: Handler) -> Handler:
        TOOLS[name] = (types.Tool(name=name, description=handler.__doc__, input_schema=schema, **more), handler)
        return handler

    return put


def strings(*names: str) -> dict[str, Any]:
    """The schema of required text arguments."""
    return {"type": "object", "properties": {name: {"type": "string"} for name in names}, "required": list(names)}


@tool("test_simple_text")
async def simple_text(_server: Everything, _ctx: Any, _params: Params) -> Answer:
    """Says a sentence."""
    return text("This is a simple text response for testing.")


@tool("echo", strings("text"))
async def echo(server: Everything, _ctx: Any, params: Params) -> Answer:
    """Says what it is given, and by which server."""
    said = str((params.arguments or {}).get("text"))
    return types.CallToolResult(
        content=[types.TextContent(text=said)], structured_content={"text": said, "server": server.name}
    )


@tool("test_image_content")
async def image(_server: Everything, _ctx: Any, _params: Params) -> Answer:
    """Shows a picture."""
    return types.CallToolResult(content=[types.ImageContent(data=picture(), mime_type="image/png")])


@tool("test_audio_content")
async def audio(_server: Everything, _ctx: Any, _params: Params) -> Answer:
    """Plays silence."""
    return types.CallToolResult(content=[types.AudioContent(data=sound(), mime_type="audio/wav")])


@tool("test_embedded_resource")
async def embedded(_server: Everything, _ctx: Any, _params: Params) -> Answer:
    """Hands over a resource."""
    inside = types.TextResourceContents(
        uri="test://embedded-resource", mime_type="text/plain", text="This is an embedded resource content."
    )
    return types.CallToolResult(content=[types.EmbeddedResource(resource=inside)])


@tool("test_multiple_content_types")
async def mixed(_server: Everything, _ctx: Any, _params: Params) -> Answer:
    """Answers in several kinds at once."""
    inside = types.TextResourceContents(
        uri="test://mixed-content-resource", mime_type="application/json", text='{"test":"data","value":123}'
    )
    return types.CallToolResult(
        content=[
            types.TextContent(text="Multiple content types test:"),
            types.ImageContent(data=picture(), mime_type="image/png"),
            types.EmbeddedResource(resource=inside),
        ]
    )


@tool("test_error_handling")
async def failing(_server: Everything, _ctx: Any, _params: Params) -> Answer:
    """Fails, always."""
    return text("This tool intentionally returns an error for testing", error=True)


@tool("test_tool_with_progress")
async def progress(_server: Everything, ctx: Any, _params: Params) -> Answer:
    """Tells how far it is."""
    for done in (0, 50, 100):
        await ctx.session.report_progress(done, 100)
        await anyio.lowlevel.checkpoint()
    return text("Done with progress.")


@tool("test_tool_with_logging")
async def logging(server: Everything, ctx: Any, _params: Params) -> Answer:
    """Says three things while it works."""
    for said in ("Tool execution started", "Tool processing data", "Tool execution completed"):
        await server.log(ctx, said)
    return text("Logged.")


@tool("test_logging_tool")
async def logging_if_asked(server: Everything, ctx: Any, _params: Params) -> Answer:
    """Says something to those who asked for it."""
    await server.log(ctx, "heard only with a log level")
    return text("Logged if asked for.")


@tool("test_sampling", strings("prompt"))
async def ask_model(server: Everything, ctx: Any, params: Params) -> Answer:
    """Asks the client's model."""
    answers = await server.ask(ctx, params, {"sample": sampling((params.arguments or {})["prompt"])})
    if isinstance(answers, types.InputRequiredResult):
        return answers
    return text(f"LLM response: {answers['sample'].content.text}")


@tool("test_elicitation", strings("message"))
async def ask_user(server: Everything, ctx: Any, params: Params) -> Answer:
    """Asks the user."""
    fields = {"username": {"type": "string"}, "email": {"type": "string"}}
    answers = await server.ask(ctx, params, {"user": form((params.arguments or {})["message"], fields)})
    if isinstance(answers, types.InputRequiredResult):
        return answers
    return text(f"User response: {answers['user'].action} {answers['user'].content}")


@tool("test_elicitation_sep1034_defaults")
async def ask_with_defaults(server: Everything, ctx: Any, params: Params) -> Answer:
    """Asks the user, with answers filled in."""
    fields = {
        "name": {"type": "string", "default": "John Doe"},
        "age": {"type": "integer", "default": 30},
        "score": {"type": "number", "default": 95.5},
        "status": {"type": "string", "enum": ["active", "inactive", "pending"], "default": "active"},
        "verified": {"type": "boolean", "default": True},
    }
    return await _elicited(server, ctx, params, form("Check these", fields))


@tool("test_elicitation_sep1330_enums")
async def ask_with_choices(server: Everything, ctx: Any, params: Params) -> Answer:
    """Asks the user to choose, in each of the five ways."""
    options = ["option1", "option2", "option3"]
    titled = [{"const": f"value{n}", "title": f"{word} Option"} for n, word in enumerate(("First", "Second"), 1)]
    fields = {
        "untitledSingle": {"type": "string", "enum": options},
        "titledSingle": {"type": "string", "oneOf": titled},
        "legacyEnum": {"type": "string", "enum": ["opt1", "opt2"], "enumNames": ["Option One", "Option Two"]},
        "untitledMulti": {"type": "array", "items": {"type": "string", "enum": options}},
        "titledMulti": {"type": "array", "items": {"anyOf": titled}},
    }
    return await _elicited(server, ctx, params, form("Choose", fields))


async def _elicited(server: Everything, ctx: Any, params: Params, question: types.ElicitRequest) -> Answer:
    answers = await server.ask(ctx, params, {"user": question})
    if isinstance(answers, types.InputRequiredResult):
        return answers
    return text(f"Elicitation completed: action={answers['user'].action}, content={answers['user'].content}")


@tool(
    "json_schema_2020_12_tool",
    {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "$defs": {"address": {"$anchor": "addressDef", "type": "object", "properties": {"street": {"type": "string"}}}},
        "properties": {"name": {"type": "string"}, "address": {"$ref": "#/$defs/address"}, "phone": {"type": "string"}},
        "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["name"]}]}],
        "if": {"properties": {"name": {"const": "x"}}, "required": ["name"]},
        "then": {"required": ["phone"]},
        "else": {"required": ["address"]},
        "additionalProperties": False,
    },
)
async def whole_schema(_server: Everything, _ctx: Any, _params: Params) -> Answer:
    """Has a schema of every kind."""
    return text("Schema.")


@tool(
    "test_mirrored_header",
    {
        "type": "object",
        "properties": {"region": {"type": "string", "x-mcp-header": "Region"}, "size": {"type": "integer"}},
        "required": ["region"],
    },
)
async def mirrored(_server: Everything, _ctx: Any, params: Params) -> Answer:
    """Has an argument that is mirrored in a header."""
    return text(f"Region {(params.arguments or {}).get('region')}")


@tool("test_missing_capability")
async def needs_sampling(_server: Everything, ctx: Any, _params: Params) -> Answer:
    """Works only for clients with a model."""
    known = ctx.session.client_capabilities
    if known is None or known.sampling is None:
        raise MCPError(MISSING_CAPABILITY, "Sampling is needed", {"requiredCapabilities": {"sampling": {}}})
    return text("The client has a model.")


@tool("test_streaming_elicitation")
async def streaming(server: Everything, ctx: Any, params: Params) -> Answer:
    """Tells of progress, then asks."""
    await ctx.session.report_progress(1, 2)
    return await _elicited(server, ctx, params, form("Go on?", {"ok": {"type": "boolean"}}))


@tool("test_trigger_tool_change")
async def change_tools(server: Everything, _ctx: Any, _params: Params) -> Answer:
    """Changes the list of tools."""
    await server.change_tools()
    return text("Changed.")


@tool("test_trigger_prompt_change")
async def change_prompts(server: Everything, _ctx: Any, _params: Params) -> Answer:
    """Changes the list of prompts."""
    await server.change_prompts()
    return text("Changed.")


@tool("wait")
async def wait(server: Everything, _ctx: Any, _params: Params) -> Answer:
    """Waits until it is cancelled."""
    server.started.set()
    try:
        await anyio.sleep_forever()
    finally:
        server.cancelled.set()
    return text("Never.")


@tool("ask_later")
async def ask_later(server: Everything, ctx: Any, params: Params) -> Answer:
    """Waits to be released, then asks who is there."""
    await server.released.wait()
    answers = await server.ask(ctx, params, {"who": form("Who?", {"name": {"type": "string"}})})
    if isinstance(answers, types.InputRequiredResult):
        return answers
    return text(f"Hello, {(answers['who'].content or {})['name']}!")


@tool("fail_later")
async def fail_later(server: Everything, _ctx: Any, _params: Params) -> Answer:
    """Waits to be released, then fails."""
    await server.released.wait()
    raise MCPError(code=-32050, message="It failed.")


@tool("waited", {"type": "object", "properties": {"anew": {"type": "boolean"}}})
async def waited(server: Everything, _ctx: Any, params: Params) -> Answer:
    """Says what became of the last `wait`; `anew` forgets it."""
    if (params.arguments or {}).get("anew"):
        server.started, server.cancelled = anyio.Event(), anyio.Event()
    state = "started" if server.started.is_set() else "new"
    return text("cancelled" if server.cancelled.is_set() else state)


@tool("touch", strings("uri"))
async def touch(server: Everything, _ctx: Any, params: Params) -> Answer:
    """Tells those who follow a resource that it changed."""
    await server.update((params.arguments or {})["uri"])
    return text("Touched.")


@tool("nonce", strings("nonce"))
async def nonce(server: Everything, ctx: Any, params: Params) -> Answer:
    """Says what it is given in every way there is: progress, log, question and answer."""
    said = str((params.arguments or {})["nonce"])
    await ctx.session.report_progress(1, 2, said)
    await server.log(ctx, said)
    answers = await server.ask(ctx, params, {"user": form(said, {"username": {"type": "string"}})})
    if isinstance(answers, types.InputRequiredResult):
        return answers
    await ctx.session.report_progress(2, 2, said)
    await server.log(ctx, said)
    return text(f"{said} {answers['user'].content}")


@tool("test_elicitation_url")
async def ask_elsewhere(server: Everything, ctx: Any, params: Params) -> Answer:
    """Sends the user to a web page."""
    known = ctx.protocol_version != "2026-07-28"
    asked = types.ElicitRequestURLParams(
        message="Please connect", url="https://example.com/connect", elicitation_id="connect-1" if known else None
    )
    return await _elicited(server, ctx, params, types.ElicitRequest(params=asked))


@tool("large", {"type": "object", "properties": {"bytes": {"type": "integer"}}})
async def large(_server: Everything, _ctx: Any, params: Params) -> Answer:
    """Answers at length."""
    return text("x" * int((params.arguments or {})["bytes"]))


NAME_QUESTION = form("What is your name?", {"name": {"type": "string"}})


def _accepted(answer: Any) -> bool:
    return isinstance(answer, types.ElicitResult) and answer.action == "accept"


@tool("test_input_required_result_elicitation")
async def asks_name(server: Everything, ctx: Any, params: Params) -> Answer:
    """Asks for a name."""
    answers = await server.ask(ctx, params, {"user_name": NAME_QUESTION})
    if isinstance(answers, types.InputRequiredResult):
        return answers
    return text(f"Hello, {(answers['user_name'].content or {}).get('name')}!")


@tool("test_input_required_result_sampling")
async def asks_capital(server: Everything, ctx: Any, params: Params) -> Answer:
    """Asks the client's model for a capital."""
    answers = await server.ask(ctx, params, {"capital_question": sampling("What is the capital of France?")})
    return answers if isinstance(answers, types.InputRequiredResult) else text(str(answers["capital_question"].content))


@tool("test_input_required_result_list_roots")
async def asks_roots(server: Everything, ctx: Any, params: Params) -> Answer:
    """Asks for the client's roots."""
    answers = await server.ask(ctx, params, {"client_roots": types.ListRootsRequest()})
    if isinstance(answers, types.InputRequiredResult):
        return answers
    return text(f"Roots: {[str(root.uri) for root in answers['client_roots'].roots]}")


async def _confirmed(params: Params, state: str, said: str) -> Answer:
    """A question whose answer counts only with the state that was given along."""
    answers = params.input_responses or {}
    if params.request_state == state and _accepted(answers.get("confirm")):
        return text(said)
    question = form("Please confirm", {"ok": {"type": "boolean"}})
    return types.InputRequiredResult(input_requests={"confirm": question}, request_state=state)


@tool("test_input_required_result_request_state")
async def with_state(_server: Everything, _ctx: Any, params: Params) -> Answer:
    """Asks, and wants its state back."""
    return await _confirmed(params, "asked", "state-ok")


@tool("test_input_required_result_tampered_state")
async def with_sealed_state(_server: Everything, _ctx: Any, params: Params) -> Answer:
    """Asks, and refuses a state that is not its own."""
    return await _confirmed(params, "sealed", "untouched")


@tool("test_input_required_result_multiple_inputs")
async def asks_everything(_server: Everything, _ctx: Any, params: Params) -> Answer:
    """Asks user, model and roots in one round."""
    asked: dict[str, types.InputRequest] = {
        "user_name": NAME_QUESTION,
        "greeting": sampling("Generate a greeting", 50),
        "client_roots": types.ListRootsRequest(),
    }
    if params.request_state == "asked" and set(asked) <= set(params.input_responses or {}):
        return text("All answered.")
    return types.InputRequiredResult(input_requests=asked, request_state="asked")


@tool("test_input_required_result_multi_round")
async def asks_twice(_server: Everything, _ctx: Any, params: Params) -> Answer:
    """Asks for a name, then for a colour."""
    answers = params.input_responses or {}
    if params.request_state == "second" and "step2" in answers:
        return text("Both answered.")
    if params.request_state == "first" and "step1" in answers:
        colour = form("Step 2: What is your favorite color?", {"color": {"type": "string"}})
        return types.InputRequiredResult(input_requests={"step2": colour}, request_state="second")
    name = form("Step 1: What is your name?", {"name": {"type": "string"}})
    return types.InputRequiredResult(input_requests={"step1": name}, request_state="first")


@tool("test_input_required_result_capabilities")
async def asks_what_is_possible(_server: Everything, ctx: Any, params: Params) -> Answer:
    """Asks only what the client can answer."""
    known = ctx.session.client_capabilities or types.ClientCapabilities()
    asked: dict[str, types.InputRequest] = {}
    if known.sampling is not None:
        asked["sample"] = sampling("Say something")
    if known.elicitation is not None:
        asked["user_name"] = NAME_QUESTION
    if not asked or set(asked) <= set(params.input_responses or {}):
        return text("Nothing left to ask.")
    return types.InputRequiredResult(input_requests=asked)
