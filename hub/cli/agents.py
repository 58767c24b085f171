"""`entrepot agents` and `entrepot runs`: who works here, and what they did."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any, BinaryIO, cast

import click
import yaml

from hub.cli.client import segment
from hub.cli.command import Group, hub, json_option
from hub.cli.show import length, line, moment, print_fields, print_json, print_table
from hub.errors import BadRequest


@click.group(cls=Group)
def agents() -> None:
    """List, show, add and remove agents."""


@agents.command(name="list", example="entrepot agents list")
@json_option
def list_agents(as_json: bool) -> None:
    """All agents."""
    found = hub().get("/agents")
    if as_json:
        print_json(found)
        return
    print_table(
        ("NAME", "STATE", "MODEL", "LAST RUN", "TOOLS", "DESCRIPTION"),
        [
            (
                row["name"],
                "enabled" if row["enabled"] else "disabled",
                row["model"],
                moment(row["last_run"]) or "never",
                ",".join(row["tools"]),
                row["description"],
            )
            for row in found["agents"]
        ],
        "No agents here.",
    )


@agents.command(example="entrepot agents show librarian")
@click.argument("name")
@json_option
def show(name: str, as_json: bool) -> None:
    """One agent."""
    found = hub().get(f"/agents/{segment(name)}")
    if as_json:
        print_json(found)
        return
    limits = ", ".join(f"{value} {limit}" for limit, value in found["limits"].items() if value is not None)
    fields = ("name", "title", "description", "model", "sandbox")
    print_fields(
        [
            *((field, found.get(field)) for field in fields),
            ("tools", "\n".join(found["tools"])),
            ("limits", limits),
            ("state", "enabled" if found["enabled"] else "disabled"),
            ("last run", moment(found["last_run"]) or "never"),
        ]
    )


@agents.command(example="entrepot agents add reviewer.yaml")
@click.argument("file", type=click.File("rb"))
@json_option
def add(file: BinaryIO, as_json: bool) -> None:
    """Add an agent from its manifest (YAML or JSON, - for stdin), or change the one of that name."""
    text = file.read()
    found = hub().put_text(f"/agents/{segment(_name(text))}", text)
    if as_json:
        print_json(found)
    else:
        click.echo(f"{found['name']} is there. Ask it: entrepot ask {found['name']} TEXT", err=True)


@agents.command(example="entrepot agents remove reviewer")
@click.argument("name")
@json_option
def remove(name: str, as_json: bool) -> None:
    """Forget an agent; its runs are kept."""
    hub().delete(f"/agents/{segment(name)}")
    if as_json:
        print_json({"removed": name})
    else:
        click.echo(f"{name} is removed.", err=True)


@click.group(cls=Group)
def runs() -> None:
    """List, show and cancel runs of agents."""


@runs.command(name="list", example="entrepot runs list --agent librarian")
@click.option("--agent", default="", help="Only runs of this agent.")
@click.option("--limit", type=click.IntRange(1, 500), default=20, show_default=True, help="Most runs.")
@json_option
def list_runs(agent: str, limit: int, as_json: bool) -> None:
    """Runs, newest first."""
    found = hub().get("/runs", agent=agent, limit=limit)
    if as_json:
        print_json(found)
        return
    print_table(
        ("ID", "AGENT", "STATE", "CREATED (UTC)", "TOOK", "STEPS", "TOKENS", "WHO", "ERROR"),
        [
            (
                row["id"],
                row["agent"],
                row["state"],
                moment(row["created"]),
                _took(row),
                row["usage"]["steps"],
                row["usage"]["input_tokens"] + row["usage"]["output_tokens"],
                row["on_behalf_of"] or row["subject"],
                row["error"] or "",
            )
            for row in found["runs"]
        ],
        "No runs yet. Ask an agent: entrepot ask AGENT TEXT",
    )


@runs.command(name="show", example="entrepot runs show run_…")
@click.argument("run")
@json_option
def show_run(run: str, as_json: bool) -> None:
    """One run and its steps."""
    found = hub().get(f"/runs/{segment(run)}")
    if as_json:
        print_json(found)
        return
    print_fields(
        [
            *(
                (name, found.get(name))
                for name in ("id", "agent", "state", "error", "subject", "on_behalf_of", "trace")
            ),
            ("created", moment(found["created"])),
            ("took", _took(found)),
            ("input", json.dumps(found["input"], ensure_ascii=False)),
            ("output", json.dumps(found["output"], ensure_ascii=False, indent=2) if found["output"] else ""),
        ]
    )
    if found["steps"]:
        click.echo()
        print_table(
            ("STEP", "KIND", "NAME", "OUTCOME", "MS"),
            [
                (row["number"], row["kind"], row["name"], row["outcome"] or "…", f"{row['milliseconds'] or 0:.0f}")
                for row in found["steps"]
            ],
            "",
        )


@runs.command(example="entrepot runs cancel run_…")
@click.argument("run")
@json_option
def cancel(run: str, as_json: bool) -> None:
    """Ask a run to stop; what it did so far is kept."""
    found: dict[str, Any] = hub().post(f"/runs/{segment(run)}/cancel")
    if as_json:
        print_json(found)
    else:
        click.echo(f"{line(run)} is {found['state']} and was asked to stop.", err=True)


def _name(text: bytes) -> str:
    """The name in a manifest; everything else of it is the agents part's to judge."""
    try:
        read: Any = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise BadRequest(f"The manifest is neither YAML nor JSON: {' '.join(str(error).split())}") from error
    name: Any = cast("dict[str, Any]", read).get("name") if isinstance(read, dict) else None
    if not isinstance(name, str):
        raise BadRequest("The manifest has no name.", hint="Begin it with `name: my-agent`.")
    return name


def _took(run: dict[str, Any]) -> str:
    if not run["started"] or not run["finished"]:
        return ""
    return length((datetime.fromisoformat(run["finished"]) - datetime.fromisoformat(run["started"])).total_seconds())
