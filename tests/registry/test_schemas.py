# ruff: noqa: E501 -- rows of data read best as rows
"""A tool's schema becomes a table and a form; what cannot be a field is JSON, and nothing hostile takes long."""

from __future__ import annotations

from typing import Any

from registry.hubface import events_in, mirrored
from registry.schemas import fields, fill, rows


def test_each_kind_of_argument_has_its_control() -> None:
    schema = {"properties": {
        "a": {"type": "string"}, "b": {"type": "string", "maxLength": 4000}, "c": {"type": "integer"}, "d": {"type": "number"},
        "e": {"type": "boolean"}, "f": {"enum": ["x", "y"]}, "g": {"type": "array"}, "h": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
        "i": {"$ref": "#/$defs/city"}, "j": {},
    }, "$defs": {"city": {"type": "string", "enum": ["上海"]}}}  # fmt: skip
    found = {field.name: field.control for field in fields(schema)}
    assert list(found.values()) == ["text", "area", "integer", "number", "truth", "choice", "json", "integer", "choice", "json"]  # fmt: skip


def test_values_are_read_as_the_schema_means_them() -> None:
    schema = {
        "properties": {"n": {"type": "integer"}, "t": {"type": "string"}, "o": {"type": "object"}},
        "required": ["t"],
    }
    read = fill(schema, {"arg.n": " 7 ", "arg.t": "7", "arg.o": ""})
    assert (read.ok, read.arguments) == (True, {"n": 7, "t": "7"})
    wrong = fill(schema, {"arg.n": "1.5", "arg.t": "", "arg.o": "{"})
    assert [field.error for field in wrong.fields] == ["error.integer", "error.needed", "error.json"]
    assert [field.value for field in wrong.fields] == ["1.5", "", "{"]


def test_a_schema_without_properties_takes_one_object() -> None:
    free: dict[str, Any] = {"type": "object", "additionalProperties": True}
    assert fill(free, {"arg.": '{"x": 1}'}).arguments == {"x": 1}
    assert not fill(free, {"arg.": "[1]"}).ok
    assert fields({"type": "object"}) == ()


def test_a_schema_that_never_ends_is_cut() -> None:
    endless: dict[str, Any] = {"$defs": {"a": {"$ref": "#/$defs/a", "properties": {"x": {"$ref": "#/$defs/a"}}}}}
    endless["properties"] = {f"p{number}": {"$ref": "#/$defs/a"} for number in range(5000)}
    assert len(rows(endless)) <= 200
    assert len(fields(endless)) <= 200
    absurd: list[Any] = [None, True, [], "x", {"properties": []}, {"properties": {"x": 3}, "required": "x"}]
    for nonsense in absurd:
        rows(nonsense)
        fields(nonsense)


def test_names_travel_in_headers_whatever_they_hold() -> None:
    assert mirrored("forecast") == "forecast"
    assert mirrored("us\u00f8") == "=?base64?dXPDuA==?="
    assert mirrored("=?base64?x?=").startswith("=?base64?PT9")


def test_an_event_stream_is_read_whatever_ends_its_lines() -> None:
    assert events_in('event: message\r\ndata: {"a":\r\ndata: 1}\r\n\r\n: keep-alive\n\ndata:2\n\n') == [
        '{"a":\n1}',
        "2",
    ]
