"""`entrepot call` and `entrepot ask`: a tool or an agent from the terminal, through the hub as any client would."""

from __future__ import annotations

import difflib
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import click

from hub.cli.client import AdminClient, segment
from hub.cli.command import Command, hub, json_option
from hub.cli.console import Console, ToolFailed
from hub.cli.results import print_result, structured
from hub.cli.show import clean, line, print_json
from hub.errors import BadRequest, InvalidParams, NotFound

AGENTS = "/mcp/s/agents"
"""Where agents keep their own names."""

META = "dev.entrepot/"

WHERE = (("lines", "lines"), ("page", "page"))
"""Members of a citation that say where in its document, and how that is called."""


@click.command(
    cls=Command,
    example="""entrepot call search_documents '{"query": "annual leave"}'
entrepot call add a=1 b=2
echo '{"a": 1, "b": 2}' | entrepot call add - --server calculator""",
)
@click.argument("tool")
@click.argument("arguments", nargs=-1, metavar="[JSON | - | KEY=VALUE…]")
@click.option("--server", default="", help="Only this server, whose tools then have their own names.")
@click.option("--save", type=click.Path(file_okay=False, path_type=Path), help="Folder to keep images and files in.")
@json_option
def call(tool: str, arguments: tuple[str, ...], server: str, save: Path | None, as_json: bool) -> None:
    """Call a tool and print its answer. Progress is shown on stderr."""
    endpoint = f"/mcp/s/{segment(server)}" if server else "/mcp"
    client = hub()
    given = _arguments(client, endpoint, tool, arguments)
    with Console().step(tool) as step:
        try:
            result = client.mcp(endpoint, "tools/call", {"name": tool, "arguments": given}, step.note)
        except InvalidParams as error:
            _explain_absence(client.tools(endpoint), tool, error)
            raise
    print_result(result, as_json, save)
    if result.get("isError"):
        raise ToolFailed(f"{tool} answered with an error", hint="Its words are above.")


@click.command(cls=Command, example="entrepot ask librarian 'How many days of annual leave are there?'")
@click.argument("agent")
@click.argument("text", nargs=-1, required=True)
@json_option
def ask(agent: str, text: tuple[str, ...], as_json: bool) -> None:
    """Ask an agent and print its answer, what it cites, and where to find the run."""
    client = hub()
    definition = _agent(client, agent)
    given = {_question(definition): " ".join(text)}
    with Console().step(f"Ask {agent}") as step:
        result = client.mcp(AGENTS, "tools/call", {"name": agent, "arguments": given}, step.note)
    if as_json:
        print_json(result)
    elif not _print_answer(result):
        print_result(result, as_json=False, save=None)
    if not as_json:
        told = [f"{name} {line(value)}" for name in ("run", "trace") if (value := _meta(result, name))]
        if told:
            click.echo("\n" + "  ".join(told))
    if result.get("isError"):
        run = _meta(result, "run")
        raise ToolFailed(
            f"{agent} could not finish", hint=f"`entrepot runs show {run}` shows its steps." if run else ""
        )


def _arguments(client: AdminClient, endpoint: str, tool: str, given: Sequence[str]) -> dict[str, Any]:
    """The arguments as one JSON object, however they were written."""
    if not given:
        return {}
    if len(given) == 1 and (given[0] == "-" or given[0].lstrip().startswith("{")):
        return _object(sys.stdin.read() if given[0] == "-" else given[0])
    pairs = [one.partition("=") for one in given]
    if any(not separator or not name for name, separator, _ in pairs):
        raise click.UsageError("Write the arguments as one JSON object, as - for stdin, or as KEY=VALUE pairs.")
    offered = client.tools(endpoint)
    found = next((one for one in offered if one["name"] == tool), None)
    if found is None:
        _explain_absence(offered, tool, None)
    schema = (found or {}).get("inputSchema", {}).get("properties", {})
    return {name: _typed(value, schema.get(name, {})) for name, _, value in pairs}


def _object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise BadRequest(
            f"The arguments are not JSON: {error}", hint='Quote them: \'{"key": "value"}\', or write key=value.'
        ) from error
    if not isinstance(value, dict):
        raise BadRequest("The arguments must be a JSON object.", hint='For example \'{"key": "value"}\'.')
    return cast("dict[str, Any]", value)


def _typed(text: str, schema: Mapping[str, Any]) -> Any:
    """A value as its schema wants it: text stays text where the schema says so, else JSON where it is some."""
    if schema.get("type") == "string":
        return text
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def _explain_absence(offered: Sequence[Mapping[str, Any]], tool: str, cause: InvalidParams | None) -> None:
    """Raise `NotFound` with near names when the tool is not among those offered."""
    names = [str(one["name"]) for one in offered]
    if tool in names:
        return
    near = difflib.get_close_matches(tool, names, n=3, cutoff=0.5)
    hint = f"Did you mean {', '.join(near)}?" if near else "`entrepot servers list` shows which servers are ready."
    raise NotFound(f"There is no tool {tool!r}", hint=hint) from cause


def _agent(client: AdminClient, agent: str) -> dict[str, Any]:
    known = client.get("/agents")["agents"]
    if not any(one["name"] == agent and one["enabled"] for one in known):
        names = [one["name"] for one in known if one["enabled"]]
        hint = f"There are: {', '.join(names)}." if names else "This hub was started without agents (--bare)."
        raise NotFound(f"There is no agent {agent!r}", hint=hint)
    offered = client.tools(AGENTS)
    found = next((one for one in offered if one["name"] == agent), None)
    if found is None:
        raise NotFound(f"The agent {agent!r} is not offered now", hint="`entrepot doctor agents` says why.")
    return found


def _question(definition: Mapping[str, Any]) -> str:
    """The one property that takes the text: the only required one of type string, else the only one at all."""
    schema = definition.get("inputSchema", {})
    texts = [name for name, one in schema.get("properties", {}).items() if one.get("type") == "string"]
    required = [name for name in texts if name in schema.get("required", [])]
    for names in (required, texts):
        if len(names) == 1:
            return names[0]
    raise BadRequest(
        f"{definition['name']} takes more than one text: {', '.join(texts) or 'none'}.",
        hint=f"Use: entrepot call {definition['name']} --server agents '{{…}}'",
    )


def _print_answer(result: dict[str, Any]) -> bool:
    """Answer and citations, where the agent answers in that form; whether it did."""
    answer = structured(result)
    if result.get("isError") or not isinstance(answer.get("answer"), str):
        return False
    click.echo(clean(answer["answer"]))
    citations: Any = answer.get("citations")
    if isinstance(citations, list):
        for number, source in enumerate(cast("list[Any]", citations), 1):
            click.echo(f"  [{number}] {_source(source)}")
    for name, value in answer.items():
        if name not in ("answer", "citations", "found"):
            click.echo(
                f"  {line(name)}: {line(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))}"
            )
    return True


def _source(source: Any) -> str:
    if not isinstance(source, dict):
        return line(source)
    known = cast("dict[str, Any]", source)
    place = line(known.get("path") or known.get("uri") or known.get("document") or "")
    at = next((f" {what} {line(known[key])}" for key, what in WHERE if known.get(key)), "")
    return " · ".join(part for part in (line(known.get("section") or known.get("title") or ""), place + at) if part)


def _meta(result: Mapping[str, Any], name: str) -> str:
    meta: Any = result.get("_meta")
    return str(cast("dict[str, Any]", meta).get(META + name) or "") if isinstance(meta, dict) else ""
