"""`entrepot tools`: find tools by what they do, as clients in search mode do."""

from __future__ import annotations

from typing import Any

import click

from hub.cli.client import segment
from hub.cli.command import Command, Group, hub, json_option
from hub.cli.show import print_json, print_table
from hub.errors import BadRequest

SEARCHING = "?mode=search"
LONGEST_SHOWN = 80


@click.group(cls=Group)
def tools() -> None:
    """Find tools by what they do."""


@tools.command(
    cls=Command,
    example="""entrepot tools find "why did the service restart last night"
entrepot tools find 查询数据库里的订单 --limit 3
entrepot tools find "make a chart" --collection support""",
)
@click.argument("query", nargs=-1, required=True)
@click.option("--limit", type=click.IntRange(1, 20), default=5, show_default=True, help="Tools to show.")
@click.option("--server", default="", help="Only tools of this server.")
@click.option("--collection", default="", help="Only tools of this collection.")
@json_option
def find(query: tuple[str, ...], limit: int, server: str, collection: str, as_json: bool) -> None:
    """The tools that fit QUERY best, ranked as for any client in search mode."""
    if server and collection:
        raise BadRequest("Give --server or --collection, not both.")
    place = f"/s/{segment(server)}" if server else f"/c/{segment(collection)}" if collection else ""
    asked = {"name": "find_tools", "arguments": {"query": " ".join(query), "limit": limit}}
    answer = hub().mcp(f"/mcp{place}{SEARCHING}", "tools/call", asked)
    found: dict[str, Any] = answer.get("structuredContent") or {"tools": [], "rankedBy": ""}
    if as_json:
        print_json(found)
        return
    print_table(
        ("NAME", "SERVER", "DOES"),
        [(one["name"], one["server"], _short(one["description"])) for one in found["tools"]],
        empty="No tool does that.",
    )
    if found["tools"]:
        click.echo(f"Ranked by {found['rankedBy']}.", err=True)


def _short(text: str) -> str:
    return text if len(text) <= LONGEST_SHOWN else text[: LONGEST_SHOWN - 1].rstrip() + "…"
