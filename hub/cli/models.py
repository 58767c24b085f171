"""`entrepot models`: the endpoints behind `/v1`."""

from __future__ import annotations

import os
import sys
from typing import Any

import click

from hub.cli.client import segment
from hub.cli.command import Group, hub, json_option
from hub.cli.show import line, print_fields, print_json, print_table
from hub.errors import BadRequest


@click.group(cls=Group)
def models() -> None:
    """List, add, remove and probe models."""


@models.command(name="list", example="entrepot models list")
@json_option
def list_models(as_json: bool) -> None:
    """All models and their state."""
    found = hub().get("/models")
    if as_json:
        print_json(found)
        return
    print_table(
        ("NAME", "KIND", "STATE", "TOOLS", "URL", "DESCRIPTION"),
        [
            (
                row["name"],
                row["kind"],
                row["state"] if row["enabled"] else "disabled",
                "native" if row["native_tools"] else "by the hub",
                row["url"],
                row["description"],
            )
            for row in found["models"]
        ],
        "No models yet. Add one: entrepot models add NAME --url URL",
    )
    for row in found["models"]:
        if row["state"] == "down":
            click.echo(f"{row['name']}: {line(row['reason'])}", err=True)


@models.command(
    example="""entrepot models add qwen --url http://127.0.0.1:11434/v1 --remote-name qwen3:8b
entrepot models add gpt --url https://api.example.com/v1 --api-key-env EXAMPLE_KEY"""
)
@click.argument("name")
@click.option("--url", required=True, help="Its OpenAI-compatible endpoint, up to and with /v1.")
@click.option("--kind", type=click.Choice(["chat", "embedding"]), default="chat", show_default=True)
@click.option("--remote-name", default="", help="What the endpoint calls it, where that differs.")
@click.option("--description", default="", help="What it is good for.")
@click.option("--api-key-env", metavar="NAME", help="Environment variable that holds the endpoint's key.")
@click.option("--api-key-stdin", is_flag=True, help="Read the endpoint's key from stdin.")
@click.option("--native-tools/--no-native-tools", default=True, help="Whether it can call tools by itself.")
@json_option
def add(name: str, api_key_env: str | None, api_key_stdin: bool, as_json: bool, **told: Any) -> None:
    """Register a model, or change one, and look whether it answers. Its key is kept sealed."""
    key = _key(api_key_env, api_key_stdin)
    body = {field: value for field, value in told.items() if value != ""} | ({} if key is None else {"api_key": key})
    client = hub()
    client.put(f"/models/{segment(name)}", body)
    found = client.post(f"/models/{segment(name)}/probe")
    _print(found, as_json)


@models.command(example="entrepot models remove qwen")
@click.argument("name")
@json_option
def remove(name: str, as_json: bool) -> None:
    """Forget a model."""
    hub().delete(f"/models/{segment(name)}")
    if as_json:
        print_json({"removed": name})
    else:
        click.echo(f"{name} is removed.", err=True)


@models.command(example="entrepot models probe qwen")
@click.argument("name")
@json_option
def probe(name: str, as_json: bool) -> None:
    """Look now whether a model answers."""
    found = hub().post(f"/models/{segment(name)}/probe")
    _print(found, as_json)


def _key(variable: str | None, from_stdin: bool) -> str | None:
    """The key from where it was said to be; never from the command line, which every user of a machine can read."""
    if from_stdin:
        return sys.stdin.read().strip()
    if variable is None:
        return None
    value = os.environ.get(variable)
    if not value:
        raise BadRequest(f"{variable} is not set here.", hint="Set it, or use --api-key-stdin.")
    return value


def _print(model: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(model)
        return
    fields = ("name", "kind", "description", "url", "state", "reason")
    facts = "\n".join(f"{line(name)}: {line(value)}" for name, value in model.get("facts", {}).items())
    print_fields([*((name, model.get(name)) for name in fields), ("facts", facts)])
