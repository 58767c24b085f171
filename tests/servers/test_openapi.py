"""The OpenAPI server against a real HTTP API: what becomes a tool, what is sent, what never leaves its place."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import anyio
import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mcp import Client, StdioServerParameters

from servers.kit import Application, Environment, Fault, SettingsFault
from servers.openapi.document import DEEPEST, LARGEST_JSON, parsed
from servers.openapi.operations import Operation, read
from servers.openapi.request import build
from servers.openapi.server import application
from tests.support.installation import installed
from tests.support.openapi_api import DESCRIPTION, Api, serving

ROOT = Path(__file__).parents[2]
MODES = ["legacy", "2026-07-28"]
SECRET = "Bearer s3cret-of-the-administrator"
NAUGHTY = [
    *("", ".", "..", "../x", "..\\x", "/", "a/b", "a%2fb", "%2e%2e", "%2E%2E%2Fsecret", "%252e%252e%252f", "..;/x"),
    *("x?admin=1", "x#y", "x&y=z", "x y", "x\r\nX-Evil: 1", "x\x00", "%0d%0aX-Evil:1", "x;y", "@evil.test", "//evil"),
    *("http://evil.test/", "１／２", "花花", "😀", "\u202e", "\ud800", "%", "%zz", "{id}", "..%c0%af", "‥", "．．"),
]
pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def api() -> Generator[Api]:
    with serving() as running:
        yield running


def made(api: Api, **more: str) -> Application:
    headers = json.dumps({"Authorization": SECRET, "X-Key": "of the administrator"})
    values = {"ENTREPOT_OPENAPI_SPEC": api.spec, "ENTREPOT_OPENAPI_HEADERS": headers} | more
    return application(Environment(values))


def described(*, servers: Any = None, **paths: Any) -> bytes:
    document = {"openapi": "3.1.0", "paths": {f"/{name}": item for name, item in paths.items()}}
    return json.dumps(document | ({"servers": servers} if servers is not None else {})).encode()


def code(result: Any) -> str:
    assert result.is_error, result.structured_content
    return result.meta["dev.entrepot/error"]["code"]


def text(result: Any) -> str:
    return result.content[0].text


OFFER = read(parsed(json.dumps(DESCRIPTION).encode()), spec="http://api.test/openapi.json")


def operation(name: str) -> Operation:
    return next(found for found in OFFER.operations if found.tool == name)


@pytest.mark.parametrize("mode", MODES)
async def test_each_operation_is_a_tool_with_its_schemas_and_annotations(api: Api, mode: str) -> None:
    async with Client(made(api).server, mode=mode) as client:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
    assert set(tools) == {
        *("listPets", "createPet", "getPet", "deletePet", "put_pets_id", "secretOfPet", "echo", "status", "away"),
        *("large", "drifted", "form", "remote"),
    }
    assert "列出宠物" in (tools["listPets"].description or "")
    create = tools["createPet"].input_schema
    assert create["required"] == ["body"] and create["properties"]["body"] == {"$ref": "#/$defs/Pet"}
    assert create["$defs"]["Animal"]["required"] == ["name"] and "id" not in create["$defs"]["Animal"]["properties"]
    pet = create["$defs"]["Pet"]["allOf"][1]["properties"]
    assert pet["note"]["type"] == ["string", "null"] and None in pet["kind"]["enum"]
    assert tools["listPets"].input_schema["properties"]["limit"]["exclusiveMinimum"] == 0
    assert tools["listPets"].output_schema is None
    output = tools["getPet"].output_schema
    assert output and output["type"] == "object"
    assert set(tools["echo"].input_schema["properties"]) == {"word", "word_query", "城市", "X-Note", "flavour"}
    assert tools["remote"].input_schema["properties"] == {"q": {}}
    hints = {name: tool.annotations for name, tool in tools.items()}
    assert hints["getPet"] and hints["getPet"].read_only_hint
    assert hints["deletePet"] and hints["deletePet"].destructive_hint and hints["deletePet"].idempotent_hint
    assert hints["put_pets_id"] and hints["put_pets_id"].idempotent_hint
    assert hints["createPet"] and not hints["createPet"].read_only_hint and not hints["createPet"].idempotent_hint


@pytest.mark.parametrize("mode", MODES)
async def test_a_call_sends_what_the_description_says_and_gives_the_answer_back(api: Api, mode: str) -> None:
    async with Client(made(api).server, mode=mode) as client:
        found = await client.call_tool("getPet", {"id": "花 1"})
        assert found.structured_content and found.structured_content["name"] == "花花"
        assert json.loads(text(found)) == found.structured_content
        assert api.seen[-1]["raw"] == "/v1/pets/" + quote("花 1")
        assert ("authorization", SECRET) in api.seen[-1]["headers"]
        asked = {"tags": ["a&b=c", "鱼"], "ids": [1, 2], "filter": {"a]&b": "c"}, "limit": 3}
        listed = await client.call_tool("listPets", asked)
        assert listed.structured_content is None and json.loads(text(listed))[0]["name"] == "花花"
        values = [("tags", "a&b=c"), ("tags", "鱼"), ("ids", "1,2"), ("filter[a]&b]", "c"), ("limit", "3")]
        assert api.seen[-1]["values"] == values
        body = {"name": "咪咪", "note": None, "parent": {"name": "x"}}
        made_pet = await client.call_tool("createPet", {"body": body})
        assert made_pet.structured_content == {"id": 7, "kind": None, **body}
        gone = await client.call_tool("deletePet", {"id": "7"})
        assert not gone.is_error and "204" in text(gone)
        await client.call_tool("form", {"body": {"a": "b&c", "d": [1, True]}})
        assert api.seen[-1]["body"] == "a=b%26c&d=1&d=true"


@pytest.mark.parametrize("value", NAUGHTY)
async def test_a_naughty_path_value_stays_one_segment_or_is_refused(api: Api, value: str) -> None:
    server = made(api).server
    before = len(api.seen)
    async with Client(server) as client:
        try:
            result = await client.call_tool("getPet", {"id": value})
        except UnicodeEncodeError:
            return  # half of a surrogate pair cannot even be sent
    if result.is_error:
        assert code(result) == "invalid-arguments" and len(api.seen) == before
        return
    raw = api.seen[-1]["raw"]
    assert raw.count("/") == 3 and raw.startswith("/v1/pets/") and unquote(raw[len("/v1/pets/") :]) == value
    assert api.seen[-1]["query"] == "" and not any(name == "x-evil" for name, _ in api.seen[-1]["headers"])


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.one_of(st.text(max_size=40), st.text("./\\%2eE5cCfF0\r\n?#&;@", max_size=12)))
def test_no_text_leaves_its_place_in_the_path_the_query_or_the_headers(value: str) -> None:
    try:
        request = build(operation("getPet"), {"id": value})
    except Fault:
        pass
    else:
        sent = httpx.URL(request.url)
        segment = sent.raw_path.decode().removeprefix("/v1/pets/")
        assert (sent.host, sent.query) == ("api.test", b"") and unquote(segment) == value
        for _ in range(3):
            assert not {"/", "\\"} & set(segment) and segment not in ("", ".", "..")
            segment = unquote(segment)
    given_values = {"word": "w", "word_query": value, "城市": value}
    try:
        sent = httpx.URL(build(operation("echo"), given_values).url)
    except Fault:
        return
    assert sent.raw_path.decode().partition("?")[0] == "/v1/echo/w.txt"
    assert sent.params.multi_items() == [("word", value), ("城市", value)]
    try:
        headers = build(operation("echo"), {"word": "w", "X-Note": value, "flavour": value}).headers
    except Fault:
        return
    assert headers["X-Note"].isprintable() and headers["X-Note"].isascii()
    assert ";" not in headers["Cookie"] and headers["Cookie"].isprintable()


async def test_callers_set_no_header_of_the_administrator_nor_framing(api: Api) -> None:
    async with Client(made(api).server) as client:
        for name in ("Authorization", "Host", "X-Key"):
            before = len(api.seen)
            assert code(await client.call_tool("echo", {"word": "w", name: "mine"})) == "invalid-arguments"
            assert len(api.seen) == before
        split = await client.call_tool("echo", {"word": "w", "X-Note": "a\r\nAuthorization: mine"})
        assert code(split) == "invalid-arguments"
        sent = await client.call_tool("echo", {"word": "w", "X-Note": "fine", "flavour": "a; b=c"})
    assert sent.structured_content
    headers = [tuple(pair) for pair in sent.structured_content["headers"]]
    assert [value for name, value in headers if name == "authorization"] == [SECRET]
    assert ("x-note", "fine") in headers and ("cookie", "flavour=a%3B%20b%3Dc") in headers


@pytest.mark.parametrize("mode", MODES)
async def test_failures_say_who_must_act(api: Api, mode: str) -> None:
    async with Client(made(api).server, mode=mode) as client:
        for status, owner in ((400, "caller"), (401, "administrator"), (429, "caller"), (503, "server")):
            result = await client.call_tool("status", {"code": status})
            assert code(result) == f"status-{status}" and "说明" in text(result) and result.meta
            assert result.meta["dev.entrepot/error"]["owner"] == owner
        before = len(api.seen)
        away = await client.call_tool("away", {})
        assert code(away) == "redirected" and "localhost" in text(away)
        assert [entry["raw"] for entry in api.seen[before:]] == ["/v1/away"]
        assert code(await client.call_tool("large", {})) == "answer-too-large"
        assert code(await client.call_tool("drifted", {})) == "answer-unexpected"
        assert code(await client.call_tool("createPet", {"body": {"name": ""}})) == "invalid-arguments"
        assert code(await client.call_tool("listPets", {"surprise": 1})) == "invalid-arguments"


async def test_an_api_that_is_gone_is_the_administrators_matter() -> None:
    with serving() as api:
        server = made(api).server
    async with Client(server) as client:
        result = await client.call_tool("getPet", {"id": "1"})
    assert code(result) == "unreachable" and SECRET not in text(result)


OPERATION: dict[str, Any] = {"get": {"operationId": "x", "responses": {}}}


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b" " * (LARGEST_JSON + 1), "larger than"),
        (b"[" * 100_000, "nested deeper"),
        (b'{"a":' * (DEEPEST + 2) + b"1" + b"}" * (DEEPEST + 2), "nested deeper"),
        (b"a: &a [x]\nb: [*a, *a]\n", "alias"),
        (b"- : [\n", "neither JSON nor YAML"),
        (b"!!python/object/apply:os.system [id]", "neither JSON nor YAML"),
        (b"<!doctype html><html></html>", "not an object|neither"),
        (b'{"swagger": "2.0"}', "Swagger 2.0"),
        (b'{"openapi": "4.0.0"}', "no version 3.0"),
        (described(), "no operation"),
        (described(x={"get": {"parameters": [{"$ref": "#/loop"}]}}), "leads nowhere"),
        (described(x={"$ref": "#/paths/~1x"}), "no operation"),
        (described(x={"get": {"parameters": [{"$ref": "http://evil.test/p.json"}]}}), "outside the document"),
        (described(servers=[{"url": "http://other.test/v1"}], x=OPERATION), "give the API's base URL"),
        (described(servers=[{"url": "file:///etc"}], x=OPERATION), "no HTTP address"),
        (described(servers=[{"url": "//other.test"}], x=OPERATION), "give the API's base URL"),
    ],
)
async def test_a_description_that_cannot_be_used_is_refused_in_words(body: bytes, said: str) -> None:
    with pytest.raises(SettingsFault, match=said):
        read(parsed(body), spec="http://api.test/openapi.json")


async def test_a_schema_that_has_no_end_or_is_none_is_cut_not_followed() -> None:
    deep: dict[str, Any] = {"type": "string"}
    for _ in range(40):
        deep = {"type": "array", "items": deep}
    wide = {"type": "object", "properties": {f"p{number}": {"type": "string"} for number in range(9_000)}}
    loop = {"$ref": "#/components/schemas/Loop"}
    odd: dict[str, Any] = {"type": "string", "minLength": "many", "enum": []}
    schemas: dict[str, Any] = {"deep": deep, "wide": wide, "loop": loop, "odd": odd, "none": 7}
    parameters = [{"in": "query", "name": name, "schema": schema} for name, schema in schemas.items()]
    document = {
        "openapi": "3.1.0",
        "paths": {"/x": {"get": {"parameters": parameters}}},
        "components": {"schemas": {"Loop": {"type": "object", "properties": {"next": loop}}}},
    }
    made = read(parsed(json.dumps(document).encode()), spec="http://api.test/").operations[0].input_schema
    assert made["properties"]["deep"] == made["properties"]["wide"] == made["properties"]["none"] == {}
    assert len(json.dumps(made)) < 10_000


async def test_names_are_unique_stable_and_short_whatever_the_description_calls_them() -> None:
    long = {"operationId": "a" * 200}
    paths: dict[str, Any] = {
        "one": {"get": long, "post": long},
        "two": {"get": {"operationId": "查询"}},
        "三": {"get": {}},
    }
    first = read(parsed(described(**paths)), spec="http://api.test/").operations
    again = read(parsed(described(**dict(reversed(paths.items())))), spec="http://api.test/").operations
    assert {found.tool for found in first} == {found.tool for found in again}
    assert len({found.tool for found in first}) == 4 and all(len(found.tool) <= 64 for found in first)


async def test_yaml_is_read_as_it_was_meant() -> None:
    body = """
openapi: 3.1.0
paths:
  /on/{day}:
    get:
      operationId: read
      parameters:
        - {name: day, in: path, required: true, schema: {type: string, enum: [2020-01-01]}}
      responses: {200: {description: ok, content: {application/json: {schema: {type: object}}}}}
"""
    found = read(parsed(body.encode()), spec="http://api.test/").operations[0]
    assert found.output_schema == {"type": "object"}
    assert found.input_schema["properties"]["day"]["enum"] == ["2020-01-01"]


async def test_the_credential_goes_to_the_api_not_to_whoever_keeps_its_description(api: Api) -> None:
    with serving() as keeper:
        async with Client(made(keeper, ENTREPOT_OPENAPI_BASE_URL=f"http://127.0.0.1:{api.port}/v1/").server) as client:
            await client.call_tool("getPet", {"id": "5"})
        assert [entry["raw"] for entry in keeper.seen] == ["/openapi.json"]
        assert not any(name in ("authorization", "x-key") for name, _ in keeper.seen[0]["headers"])
    assert api.seen[-1]["raw"] == "/v1/pets/5" and ("authorization", SECRET) in api.seen[-1]["headers"]


async def test_a_description_that_has_moved_is_not_run_after(api: Api) -> None:
    with pytest.raises(SettingsFault, match="moved"):
        made(api, ENTREPOT_OPENAPI_SPEC=api.spec.replace("openapi.json", "moved.json"))
    with pytest.raises(SettingsFault, match="base-url"):
        made(api, ENTREPOT_OPENAPI_SPEC="/etc/hostname")


@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_it_runs_alone_over_stdio_with_its_headers_in_a_file(api: Api, mode: str, tmp_path: Path) -> None:
    secrets = tmp_path / "headers"
    secrets.write_text(f"Authorization: {SECRET}\n\n")
    server = StdioServerParameters(
        command=sys.executable,
        args=["-m", "servers.openapi", "--spec", api.spec, "--header-file", str(secrets)],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)},
        cwd=str(ROOT),
    )
    with anyio.fail_after(40):
        async with Client(server, mode=mode) as client:
            found = await client.call_tool("getPet", {"id": "1"})
    assert found.structured_content and ("authorization", SECRET) in api.seen[-1]["headers"]


def test_an_administrator_adds_an_api_by_its_description_and_calls_it(tmp_path: Path) -> None:
    with serving() as api, installed(tmp_path / "home") as hub:
        words = ("servers", "add", "petstore", "--openapi", api.spec, "--header", f"Authorization: {SECRET}")
        assert hub.json(*words, "--dry-run")["counts"]["tool"] == 13
        assert hub.json("servers", "list")["servers"] == []
        added = hub.json(*words)
        assert (added["state"], added["kind"], added["secrets"]) == ("ready", "openapi", ["Authorization"])
        # Looked at over its unix socket, in its sandbox.
        assert (set(added["eras"]), added["sandbox"]) == ({"modern", "legacy"}, "server")
        answer = hub.json("call", "getPet", '{"id": "花花"}')
        assert answer["structuredContent"]["at"] == "/v1/pets/" + quote("花花")
        assert ("authorization", SECRET) in api.seen[-1]["headers"]
        assert "status 503" in hub.run("call", "status", "code=503", code=5).stdout
        assert not _running_with(SECRET) and not _running_with(api.spec)
        hub.run("servers", "remove", "petstore", code=0)
        with serving({"openapi": "3.0.0", "paths": {}}) as empty:
            refused = hub.run("servers", "add", "none", "--openapi", empty.spec, code=1)
            assert "no operation" in refused.stderr


def _running_with(words: str) -> bool:
    """Whether a process of this machine other than ours shows these words in its command line."""
    ours = {os.getpid(), os.getppid()}
    for entry in Path("/proc").iterdir():
        try:
            if (
                entry.name.isdigit()
                and int(entry.name) not in ours
                and words in (entry / "cmdline").read_text("utf-8", "replace")
            ):
                return True
        except OSError:
            continue
    return False
