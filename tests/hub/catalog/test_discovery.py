"""What of a server's offer is fit to be listed, and the pins and differences of definitions."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from hub.catalog import discovery, lockfile
from hub.catalog.discovery import MOST_DEFINITIONS, param_headers, read
from hub.catalog.fragments import members, rewritten
from hub.upstream.address import Facts, Survey
from tests.hub.catalog.scripted import offering, tool


def schema(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties}


def nested(levels: int) -> Any:
    value: Any = {}
    for _ in range(levels):
        value = {"properties": value}
    return value


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"{", "not readable JSON"),
        (b"[1]", "not a JSON object"),
        (b'{"description": "x"}', "has no name"),
        (orjson.dumps({"name": "x" * 300, "inputSchema": {"type": "object"}}), "longer than"),
        (orjson.dumps({"name": "a\nb", "inputSchema": {"type": "object"}}), "control characters"),
        (orjson.dumps({"name": "x"}), "no inputSchema"),
        (tool("x", inputSchema={"type": "string"}), 'not of type "object"'),
        (tool("x", inputSchema={"type": "object"} | nested(80)), "nested deeper"),
        (tool("x", outputSchema=[1]), "outputSchema"),
        (tool("x", description=["not", "text"]), "description"),
        (tool("x", description="y" * 2**20), "larger than"),
        (b'{"name":"x","inputSchema":{"type":"object"},"name":"y"}', "given twice"),
        (tool("x", inputSchema=schema(a={"type": "number", "x-mcp-header": "A"})), "needs type"),
        (tool("x", inputSchema=schema(a={"type": "string", "x-mcp-header": "A B"})), "not a header name"),
        (
            tool("x", inputSchema=schema(a={"type": "array", "items": {"type": "string", "x-mcp-header": "A"}})),
            "plain chain",
        ),
        (
            tool("x", inputSchema={"type": "object", "oneOf": [schema(a={"type": "string", "x-mcp-header": "A"})]}),
            "plain",
        ),
        (
            tool(
                "x",
                inputSchema=schema(
                    a={"type": "string", "x-mcp-header": "Same"}, b={"type": "string", "x-mcp-header": "same"}
                ),
            ),
            "used twice",
        ),
    ],
)
def test_a_bad_definition_is_left_out_with_a_reason_and_its_neighbour_is_kept(body: bytes, reason: str) -> None:
    found = read(offering(body, tool("fine")))
    assert [item.name for item in found.definitions] == ["fine"]
    assert len(found.problems) == 1 and reason in found.problems[0]


def test_a_name_listed_twice_is_taken_once() -> None:
    found = read(offering(tool("x"), tool("x", description="Another.")))
    assert [item.position for item in found.definitions] == [0]
    assert "listed twice" in found.problems[0]


def test_a_flood_is_cut() -> None:
    found = read(offering(*(tool(f"t{n}") for n in range(MOST_DEFINITIONS + 7))))
    assert len(found.definitions) == MOST_DEFINITIONS
    assert "only the first" in found.problems[0]


def test_a_flood_of_facts_is_not_kept() -> None:
    survey = Survey({"modern": Facts({"x": "y" * 2**20}, {"name": "n" * 2**20}, "z" * 2**20)}, {})
    found = read(survey)
    facts = found.facts["modern"]
    assert len(orjson.dumps([facts.capabilities, facts.info, facts.instructions])) < 2**18
    assert found.problems


def test_headers_are_found_along_properties() -> None:
    inner = schema(zone={"type": "string", "x-mcp-header": "X-Zone"})
    definition = {"inputSchema": schema(place=inner, count={"type": "integer", "x-mcp-header": "Count"})}
    assert set(param_headers(definition)) == {("x-zone", ("place", "zone")), ("count", ("count",))}


def test_a_property_may_be_called_like_the_keyword() -> None:
    assert param_headers({"inputSchema": schema(**{"x-mcp-header": {"type": "object"}})}) == ()


def test_the_digest_covers_what_steers_a_model_and_not_the_order_of_members() -> None:
    one = {"name": "x", "description": "d", "inputSchema": {"type": "object"}}
    assert lockfile.digest(one) == lockfile.digest(dict(reversed(one.items())))
    assert lockfile.digest(one) == lockfile.digest(one | {"_meta": {"any": 1}, "icons": []})
    for change in ({"description": "e"}, {"annotations": {"readOnlyHint": True}}, {"title": "t"}):
        assert lockfile.digest(one) != lockfile.digest(one | change)


def test_differences_are_said_in_words() -> None:
    old = {"description": "Reads.", "inputSchema": schema(a={"type": "string"}, b={"type": "string"})}
    new_schema = schema(a={"type": "integer"}, c={"type": "string"}) | {"required": ["a", "c"]}
    said = lockfile.differences(old, {"description": "Writes.", "inputSchema": new_schema})
    assert said == (
        'description changed: "Reads." -> "Writes."',
        'inputSchema.a changed: {"type": "string"} -> {"type": "integer"}',
        "inputSchema.a now required",
        "inputSchema.b removed",
        'inputSchema.c added (required): {"type": "string"}',
    )
    assert lockfile.differences(old, old) == ()


def test_a_rewritten_definition_keeps_every_other_byte() -> None:
    body = b'{ "name" : "x",\n "big":123456789012345678901234567890, "float":1.0e+2,"u":"\\u00e9" , "_meta":{"k":[ ]}}'
    made = rewritten(body, {"name": "s__x"})
    assert b'"big":123456789012345678901234567890' in made and b'"float":1.0e+2' in made and b"\\u00e9" in made
    assert b"\n" not in made
    assert orjson.loads(made)["name"] == "s__x"
    assert [member.key for member in members(made)] == ["name", "big", "float", "u", "_meta"]
    assert rewritten(body, {}, frozenset({"big", "float", "u", "_meta"})) == b'{"name" : "x"}'


def test_a_definition_that_needs_no_change_is_passed_on_as_it_came() -> None:
    assert read(offering(tool("x"))).definitions[0].body == tool("x")
    assert discovery.NAME_KEYS["template"] == "uriTemplate"
