"""Tools as typed functions: names, signatures and types from their schemas, and the arguments that come back."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson
import pytest

from hub.catalog.snapshot import Kind, Target, View
from hub.gateway.code.namespace import namespace
from hub.gateway.code.stubs import module_stub, signature
from tests.hub.gateway.code.conftest import Shop, said
from tests.support.hub import RunningHub


def definition(schema: dict[str, Any], output: dict[str, Any] | None = None, **more: Any) -> bytes:
    return orjson.dumps({"inputSchema": schema} | ({"outputSchema": output} if output else {}) | more)


def properties(*required: str, **schemas: Any) -> dict[str, Any]:
    return {"type": "object", "properties": schemas, "required": list(required)}


TYPES: list[tuple[dict[str, Any], str]] = [
    ({"type": "string"}, "str"),
    ({"type": "integer"}, "int"),
    ({"type": ["string", "null"]}, "str | None"),
    ({"enum": ["a", "b", 3]}, "Literal['a', 'b', 3]"),
    ({"const": True}, "Literal[True]"),
    ({"enum": list(range(500)), "type": "integer"}, "int"),
    ({"type": "array", "items": {"type": "number"}}, "list[float]"),
    ({"type": "array"}, "list[Any]"),
    ({"type": "object"}, "dict[str, Any]"),
    ({"type": "object", "additionalProperties": {"type": "boolean"}}, "dict[str, bool]"),
    ({"anyOf": [{"type": "null"}, {"type": "string"}, {"type": "string"}]}, "str | None"),
    ({"allOf": [{"type": "string"}]}, "str"),
    ({"$ref": "https://example.com/schema"}, "Any"),
    ({"$ref": "#/$defs/missing"}, "Any"),
    ({}, "Any"),
    ({"type": "strange"}, "Any"),
]


@pytest.mark.parametrize(("schema", "annotation"), TYPES)
def test_a_schema_becomes_an_annotation(schema: dict[str, Any], annotation: str) -> None:
    assert signature("f", definition(properties(x=schema))).parameters[0].annotation == annotation


def test_objects_become_typed_dictionaries_and_references_are_followed() -> None:
    item = properties("id", id={"type": "string"}, next={"$ref": "#/$defs/Item"}, **{"x-note": {"type": "string"}})
    output = properties("items", items={"type": "array", "items": {"$ref": "#/$defs/Item"}}) | {"$defs": {"Item": item}}
    stub = module_stub([signature("find", definition(properties("q", q={"type": "string"}, n={}), output))])
    assert stub.splitlines()[1:] == [
        "class FindResult(TypedDict):",
        "    items: list[FindItem]",
        "FindItem = TypedDict('FindItem', {'id': str, 'next': NotRequired[FindItem], 'x-note': NotRequired[str]})",
        "async def find(q: str, n: Any = ...) -> FindResult: ...",
    ]


def test_a_schema_that_unfolds_without_end_does_not() -> None:
    levels = {f"d{n}": {"anyOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 50} for n in range(50)}
    loop = {"$ref": "#/$defs/loop"}
    schema = properties(x={"$ref": "#/$defs/d0"}, y={"$ref": "#/$defs/loop"}) | {"$defs": levels | {"loop": loop}}
    assert [one.annotation for one in signature("f", definition(schema)).parameters] == ["Any", "Any"]
    deep: dict[str, Any] = {"type": "string"}
    for _ in range(50):
        deep = properties(x=deep)
    assert len(signature("f", definition(deep)).stub()) < 2000


def test_names_that_python_cannot_say_are_cleaned_and_lead_back() -> None:
    schema = properties("from", **{"from": {"type": "string"}, "x-id": {"type": "integer"}, "1st": {}})
    read = signature("f", definition(schema))
    assert [one.name for one in read.parameters] == ["from_", "x_id", "n1st"]
    assert read.arguments(("a",), {"x_id": 3}) == {"from": "a", "x-id": 3}
    assert read.arguments((), {"from": "a", "x-id": 3}) == {"from": "a", "x-id": 3}
    for positional, named in ((("a", 1, 2, 3), {}), ((), {}), (("a",), {"from_": "b"}), (("a",), {"other": 1})):
        with pytest.raises(TypeError, match=r"f\(\)"):
            read.arguments(positional, named)


def test_every_tool_has_a_path_of_its_own() -> None:
    targets = [
        Target("my-server", "tool", "get.it", "get.it", b"{}", ""),
        Target("my-server", "tool", "get-it", "get-it", b"{}", ""),
        Target("my_server", "tool", "class", "class", b"{}", ""),
        Target("json", "tool", "load", "load", b"{}", ""),
    ]
    alias = replace(targets[0], exposed="alias")
    names: dict[tuple[Kind, str], Target] = {("tool", one.exposed): one for one in (*targets, alias)}
    view = View("", (), {}, names)
    paths = [one.path for one in namespace(view).by_target.values()]
    assert paths == ["my_server.get_it", "my_server.get_it_2", "my_server_2.class_", "json_.load"]


def test_a_description_cannot_leave_its_docstring() -> None:
    read = signature("f", definition(properties(), description='Does it. """\nimport os'))
    assert read.shown("m").count('"""') == 2


@pytest.mark.anyio
async def test_describe_tool_shows_functions_to_those_who_may_call_them(running: RunningHub, shop: Shop) -> None:
    few = await running.key("few", ["call:shop/get_order"])
    async with running.connect("modern", "/mcp?mode=code") as client:
        shown = said(await client.call_tool("describe_tool", {"names": ["get_order", "shop.list_orders"]}))
        unknown = await client.call_tool("describe_tool", {"names": ["nothing"]})
    assert shown.splitlines() == [
        "# import shop",
        "class GetOrderResult(TypedDict):",
        "    id: str",
        "    total: float",
        "async def get_order(id: str) -> GetOrderResult:",
        '    """One order."""',
        "",
        "# import shop",
        "class ListOrdersResult(TypedDict):",
        "    result: list[str]",
        "async def list_orders(customer: str, limit: int = ...) -> ListOrdersResult:",
        '    """The numbers of a customer\'s orders."""',
    ]
    assert unknown.is_error
    async with running.connect("modern", "/mcp?mode=code", few) as client:
        denied = await client.call_tool("describe_tool", {"names": ["list_orders"]})
        assert said(denied) == said(unknown).replace("nothing", "list_orders")
