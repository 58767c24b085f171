"""No request of ours passes a proxy that the environment names: it would see keys, and be in the way of local ones."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CLIENTS = ("Client", "AsyncClient")


def test_every_http_client_ignores_the_proxies_of_the_environment() -> None:
    """The library heeds them unless told not to, or handed a transport of its own."""
    astray = [
        f"{path.relative_to(ROOT)}:{call.lineno}"
        for part in ("hub", "agents", "registry")
        for path in (ROOT / part).rglob("*.py")
        for call in clients_in(ast.parse(path.read_text(encoding="utf-8")))
        if not {"transport", "trust_env"} & {word.arg for word in call.keywords}
    ]
    assert astray == []


def clients_in(tree: ast.Module) -> list[ast.Call]:
    """The calls that make an httpx client."""
    return [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in CLIENTS
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id == "httpx"
    ]
