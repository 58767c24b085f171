"""A client of the SDK's first version: run by an interpreter that holds it, prints what it met as JSON.

Usage: python old_sdk_client.py URL [TOKEN]
"""

import asyncio
import json
import sys

from mcp import ClientSession, types  # pyright: ignore[reportMissingImports]
from mcp.client.streamable_http import streamablehttp_client  # pyright: ignore


async def main(url, token):
    met = {"logs": 0, "progress": 0, "asked": []}

    async def on_log(params):
        met["logs"] += 1

    async def on_progress(progress, total, message):
        met["progress"] += 1

    async def elicit(context, params):
        met["asked"].append("elicitation")
        return types.ElicitResult(action="decline")

    async def sample(context, params):
        met["asked"].append("sampling")
        text = types.TextContent(type="text", text="a sample")
        return types.CreateMessageResult(role="assistant", content=text, model="none")

    headers = {"Authorization": "Bearer " + token} if token else {}
    async with (
        streamablehttp_client(url, headers=headers) as (read, write, _),
        ClientSession(
            read, write, logging_callback=on_log, elicitation_callback=elicit, sampling_callback=sample
        ) as session,
    ):
        begun = await session.initialize()
        met["protocol"] = begun.protocolVersion
        met["tools"] = sorted(tool.name for tool in (await session.list_tools()).tools)
        met["prompts"] = sorted(prompt.name for prompt in (await session.list_prompts()).prompts)
        met["resources"] = len((await session.list_resources()).resources)
        met["echo"] = (await session.call_tool("echo", {"message": "hello"})).content[0].text
        arguments = {"duration": 0.4, "steps": 4}
        await session.call_tool("trigger-long-running-operation", arguments, progress_callback=on_progress)
        for name in ("trigger-elicitation-request", "trigger-sampling-request"):
            if name in met["tools"]:
                given = {"prompt": "x", "maxTokens": 5} if "sampling" in name else {}
                await session.call_tool(name, given)
        first = (await session.list_resources()).resources[0]
        met["read"] = len((await session.read_resource(first.uri)).contents)
        asked = types.PromptReference(type="ref/prompt", name="completable-prompt")
        found = await session.complete(asked, {"name": "department", "value": "E"})
        met["completion"] = found.completion.values
        await session.set_logging_level("debug")
    print(json.dumps(met))


asyncio.run(main(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else ""))
