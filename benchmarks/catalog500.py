"""A catalog of 500 tools on five MCP servers of this process: a shop that works, and a company's worth of others.

The others only have definitions, of the length and shape that tools in the field have.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import mcp_types as types
import orjson
import uvicorn
from mcp.server.lowlevel import Server

from benchmarks.hub import free_port

SERVERS = ("shop", "crm", "finance", "devops", "people")
TOOLS_OF_ONE = 100

THINGS = {
    "shop": (
        "cart",
        "coupon",
        "product",
        "review",
        "shipment",
        "supplier",
        "warehouse",
        "return",
        "gift_card",
        "price",
    ),
    "crm": ("contact", "company", "deal", "note", "pipeline", "campaign", "segment", "ticket", "meeting", "quote"),
    "finance": (
        "invoice",
        "payment",
        "expense",
        "budget",
        "ledger",
        "tax_form",
        "refund",
        "payout",
        "account",
        "audit",
    ),
    "devops": (
        "cluster",
        "deployment",
        "alert",
        "dashboard",
        "pipeline_run",
        "secret",
        "bucket",
        "queue",
        "image",
        "node",
    ),
    "people": (
        "employee",
        "vacation",
        "payslip",
        "candidate",
        "interview",
        "training",
        "goal",
        "survey",
        "badge",
        "desk",
    ),
}
VERBS = {
    "list": "List {0}s, newest first, with filters for state and time. Gives at most `limit` of them and a cursor.",
    "get": "Get one {0} with all of its fields, by its number.",
    "create": "Create a {0}. Fields that are left out get the defaults of the workspace.",
    "update": "Change fields of a {0}. Fields that are left out stay as they are.",
    "delete": "Delete a {0} for good. Asks for a reason, which is kept in the history.",
    "search": "Search {0}s by words in any of their texts, best matches first.",
    "export": "Export {0}s as a CSV file and give its address, which is good for an hour.",
    "assign": "Assign a {0} to a person, who is told by mail.",
    "archive": "Archive a {0}: it leaves the lists and can be brought back.",
    "comment_on": "Write a comment on a {0}, in Markdown, seen by everybody who may see the {0}.",
}
ARGUMENTS: dict[str, dict[str, Any]] = {
    "id": {"type": "string", "description": "Its number, as lists give it"},
    "state": {"type": "string", "enum": ["open", "closed", "archived"], "description": "Only those in this state"},
    "since": {"type": "string", "format": "date-time", "description": "Only those changed after this moment"},
    "limit": {"type": "integer", "minimum": 1, "maximum": 200, "default": 50, "description": "How many at most"},
    "cursor": {"type": "string", "description": "Where the page before ended"},
    "query": {"type": "string", "description": "Words to look for"},
    "fields": {"type": "object", "additionalProperties": True, "description": "The fields and their values"},
    "reason": {"type": "string", "description": "Why, for the history"},
    "person": {"type": "string", "description": "Mail address of the person"},
    "text": {"type": "string", "description": "What to write, in Markdown"},
}
TAKES = {
    "list": ("state", "since", "limit", "cursor"),
    "get": ("id",),
    "create": ("fields",),
    "update": ("id", "fields"),
    "delete": ("id", "reason"),
    "search": ("query", "state", "limit"),
    "export": ("state", "since"),
    "assign": ("id", "person"),
    "archive": ("id", "reason"),
    "comment_on": ("id", "text"),
}

ORDER_SCHEMA = {
    "type": "object",
    "properties": {
        "id": {"type": "string"},
        "customer": {"type": "string"},
        "placed": {"type": "string"},
        "total": {"type": "number"},
        "currency": {"type": "string"},
        "lines": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "sku": {"type": "string"},
                    "title": {"type": "string"},
                    "quantity": {"type": "integer"},
                    "price": {"type": "number"},
                },
                "required": ["sku", "title", "quantity", "price"],
            },
        },
        "address": {"type": "string"},
        "history": {"type": "array", "items": {"type": "string"}},
    },
    "required": ["id", "customer", "placed", "total", "currency", "lines", "address", "history"],
}
SHOP: tuple[types.Tool, ...] = (
    types.Tool(
        name="list_orders",
        description="List the orders of a customer, newest first: their numbers and dates.",
        input_schema={
            "type": "object",
            "properties": {"customer": {"type": "string", "description": "The customer's number"}},
            "required": ["customer"],
        },
        output_schema={
            "type": "object",
            "properties": {
                "orders": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "properties": {"id": {"type": "string"}, "placed": {"type": "string"}},
                        "required": ["id", "placed"],
                    },
                }
            },
            "required": ["orders"],
        },
    ),
    types.Tool(
        name="get_order",
        description="Get one order of a customer with its lines, its total and its history.",
        input_schema={
            "type": "object",
            "properties": {"id": {"type": "string", "description": "The order's number"}},
            "required": ["id"],
        },
        output_schema=ORDER_SCHEMA,
    ),
    types.Tool(
        name="write_report",
        description="Write a report on a customer's orders into the customer's file.",
        input_schema={
            "type": "object",
            "properties": {
                "customer": {"type": "string", "description": "The customer's number"},
                "text": {"type": "string", "description": "The report, in Markdown"},
            },
            "required": ["customer", "text"],
        },
        output_schema={"type": "object", "properties": {"number": {"type": "string"}}, "required": ["number"]},
    ),
)
ORDERS = ("A-1001", "A-1002", "A-1003")


def order(number: str) -> dict[str, Any]:
    """One order of the length that orders have: fifteen lines."""
    seed = int(number[-1])
    lines: list[dict[str, Any]] = [
        {
            "sku": f"SKU-{seed}{line:03}",
            "title": f"Article {line} of collection {seed}, recycled cotton, size M",
            "quantity": 1 + line % 3,
            "price": round(7.5 + line * 1.25 + seed, 2),
        }
        for line in range(15)
    ]
    total = round(sum(line["quantity"] * line["price"] for line in lines), 2)
    history = [f"2026-0{seed}-1{step} 10:0{step} UTC: step {step} of the order was done" for step in range(8)]
    return {
        "id": number,
        "customer": "C-77",
        "placed": f"2026-0{seed}-11",
        "total": total,
        "currency": "EUR",
        "lines": lines,
        "address": "Acme Ltd, 1 Long Street, 10115 Berlin, Germany",
        "history": history,
    }


def tools_of(server: str) -> list[types.Tool]:
    """The definitions of one server: 100 each."""
    found = list(SHOP) if server == "shop" else []
    for thing, (verb, about) in itertools.product(THINGS[server], VERBS.items()):
        if len(found) == TOOLS_OF_ONE:
            break
        properties = {name: ARGUMENTS[name] for name in TAKES[verb]}
        schema: dict[str, Any] = {"type": "object", "properties": properties}
        required = [name for name in TAKES[verb] if name in ("id", "query", "fields", "person", "text")]
        found.append(
            types.Tool(
                name=f"{verb}_{thing}" + ("s" if verb in ("list", "search", "export") else ""),
                description=about.format(thing.replace("_", " ")),
                input_schema=schema | ({"required": required} if required else {}),
            )
        )
    return found


def server(name: str) -> Server[Any]:
    """One server. What is not the shop's own answers that it is not there."""
    tools = tools_of(name)

    async def on_list(_context: Any, _params: Any) -> types.ListToolsResult:
        return types.ListToolsResult(tools=tools, ttl_ms=60_000, cache_scope="public")

    async def on_call(_context: Any, params: types.CallToolRequestParams) -> types.CallToolResult:
        given = params.arguments or {}
        answers: dict[str, Any] = {
            "list_orders": {"orders": [{"id": one, "placed": order(one)["placed"]} for one in ORDERS]},
            "write_report": {"number": "R-1"},
        }
        told = order(str(given["id"])) if params.name == "get_order" else answers[params.name]
        text = orjson.dumps(told).decode()
        return types.CallToolResult(content=[types.TextContent(text=text)], structured_content=told)

    return Server(name, version="1", on_list_tools=on_list, on_call_tool=on_call)


@contextmanager
def serving() -> Generator[dict[str, str]]:
    """The five servers on ports of their own: their addresses by name."""
    running: list[uvicorn.Server] = []
    addresses: dict[str, str] = {}
    for name in SERVERS:
        port = free_port()
        app = server(name).streamable_http_app(json_response=True)
        config = uvicorn.Config(app, host="127.0.0.1", port=port, log_level="error")
        one = uvicorn.Server(config)
        threading.Thread(target=one.run, daemon=True).start()
        running.append(one)
        addresses[name] = f"http://127.0.0.1:{port}/mcp"
    deadline = time.monotonic() + 20
    while not all(one.started for one in running) and time.monotonic() < deadline:
        time.sleep(0.05)
    try:
        yield addresses
    finally:
        for one in running:
            one.should_exit = True
