"""The operations of a description, each with the tool that it becomes. What cannot be offered is left out and named."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast
from urllib.parse import urljoin, urlsplit

import mcp_types as types

from servers.kit import SettingsFault
from servers.openapi.document import Document, Unresolvable
from servers.openapi.schemas import Converter

METHODS = ("get", "put", "post", "delete", "patch", "head")
MOST_OPERATIONS = 2_000
LONGEST_NAME = 64
"""Of a tool and of an argument: what the APIs of large models take."""
LONGEST_DESCRIPTION = 4_000
LARGEST_SCHEMA = 200_000
"""Characters of JSON; a schema beyond that is replaced by one that takes anything."""

Place = Literal["path", "query", "header", "cookie"]
PLACES: tuple[Place, ...] = ("path", "query", "header", "cookie")
DEFAULT_STYLES = {"path": "simple", "query": "form", "header": "simple", "cookie": "form"}
STYLES = {
    "path": {"simple"},
    "query": {"form", "spaceDelimited", "pipeDelimited", "deepObject"},
    "header": {"simple"},
    "cookie": {"form"},
}
OWN_HEADERS = frozenset(
    {
        *("accept", "accept-encoding", "authorization", "connection", "content-encoding", "content-length"),
        *("content-type", "cookie", "expect", "forwarded", "host", "keep-alive", "te", "trailer", "transfer-encoding"),
        *("upgrade", "via", "x-http-method", "x-http-method-override", "x-method-override"),
    }
)
"""Never taken from a caller: credentials, framing, and what would turn one operation into another."""
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}")


@dataclass(frozen=True)
class Parameter:
    """One argument of a tool and where it goes in the request."""

    argument: str
    name: str
    place: Place
    style: str
    explode: bool
    as_json: bool
    required: bool


@dataclass(frozen=True)
class Body:
    """The argument that becomes the request's body."""

    argument: str
    media_type: str
    required: bool


@dataclass(frozen=True)
class Operation:
    """One operation and its tool. `base` ends without a slash, `path` begins with one and holds `{name}`s."""

    tool: str
    title: str
    description: str
    method: str
    base: str
    path: str
    parameters: tuple[Parameter, ...]
    body: Body | None
    input_schema: dict[str, Any]
    output_schema: dict[str, Any] | None
    annotations: types.ToolAnnotations


@dataclass(frozen=True)
class Offer:
    """All that can be offered, and what was left out, with reasons."""

    title: str
    description: str
    operations: tuple[Operation, ...]
    left_out: tuple[str, ...]


def read(document: Document, *, spec: str, base_url: str = "", given_headers: frozenset[str] = frozenset()) -> Offer:
    """Every operation that can be called.

    `spec` is where the document came from: servers that it names must have that origin unless `base_url` replaces
    them. `given_headers` (lower case) are the administrator's and no caller's. Raises `SettingsFault`.
    """
    reader = _Reader(document, spec, base_url, given_headers)
    made: list[Operation] = []
    left_out: list[str] = []
    for path, method, item, raw in _found(document):
        if len(made) >= MOST_OPERATIONS:
            raise SettingsFault(f"The OpenAPI description has more than {MOST_OPERATIONS} operations.")
        try:
            made.append(reader.operation(path, method, item, raw))
        except (Unresolvable, _LeftOut) as reason:
            left_out.append(f"{method.upper()} {path}: {reason}"[:500])
    if not made:
        why = f" {left_out[0]}." if left_out else ""
        raise SettingsFault(f"The OpenAPI description has no operation that can be offered.{why}")
    info = document.root.get("info")
    about = cast("dict[str, Any]", info) if isinstance(info, dict) else {}
    return Offer(_text(about, "title", 200), _text(about, "description", 4_000), tuple(made), tuple(left_out))


def origin(url: str) -> str:
    """Scheme, host and port in one form. Raises `ValueError` for what is not an HTTP URL."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None:
        raise ValueError("not an HTTP URL")
    return f"{parts.scheme}://{parts.hostname}:{parts.port or {'http': 80, 'https': 443}[parts.scheme]}"


class _LeftOut(Exception):
    """Why an operation cannot be offered."""


def _found(document: Document) -> Iterator[tuple[str, str, dict[str, Any], Any]]:
    paths = document.root.get("paths")
    for path, raw in (cast("dict[str, Any]", paths) if isinstance(paths, dict) else {}).items():
        try:
            item = document.resolved(raw)
        except Unresolvable:
            continue
        for method in METHODS:
            if path.startswith("/") and method in item:
                yield path, method, item, item[method]


class _Reader:
    def __init__(self, document: Document, spec: str, base_url: str, given_headers: frozenset[str]) -> None:
        self._document = document
        self._spec = spec
        self._base_url = base_url
        self._given_headers = given_headers
        self._names: set[str] = set()

    def operation(self, path: str, method: str, item: dict[str, Any], raw: Any) -> Operation:
        if not isinstance(raw, dict):
            raise _LeftOut("it is not an object")
        given = cast("dict[str, Any]", raw)
        base = self._base(given, item)
        converter = Converter(self._document, "request")
        taken: set[str] = set()
        properties: dict[str, Any] = {}
        parameters: list[Parameter] = []
        for declared in self._parameters(item, given):
            parameter = self._parameter(declared, taken)
            if parameter is None:
                continue
            schema = converter.converted(_parameter_schema(declared))
            if text := _text(declared, "description", 1_000):
                schema = {**schema, "description": text}
            properties[parameter.argument] = schema
            parameters.append(parameter)
        slots = set(re.findall(r"{([^{}]*)}", path))
        if slots != {parameter.name for parameter in parameters if parameter.place == "path"}:
            raise _LeftOut("its path and its path parameters do not match")
        body = self._body(given, converter, taken, properties)
        required = [parameter.argument for parameter in parameters if parameter.required]
        required += [body.argument] if body and body.required else []
        return Operation(
            tool=self._tool_name(given, method, path),
            title=_text(given, "summary", 200),
            description=_described(given, item, method, path),
            method=method.upper(),
            base=base,
            path=path,
            parameters=tuple(parameters),
            body=body,
            input_schema=_input_schema(properties, required, converter.definitions),
            output_schema=self._output_schema(given),
            annotations=_annotations(method),
        )

    def _base(self, given: Mapping[str, Any], item: Mapping[str, Any]) -> str:
        if self._base_url:
            return self._base_url.rstrip("/")
        servers = given.get("servers") or item.get("servers") or self._document.root.get("servers") or [{"url": "/"}]
        first = self._document.resolved(servers[0] if isinstance(servers, list) else None)
        url = urljoin(self._spec, _filled(str(first.get("url", "/")), first.get("variables")))
        parts = urlsplit(url)
        try:
            same = origin(url) == origin(self._spec)
        except ValueError:
            raise _LeftOut("its server has no HTTP address; give the base URL of the API") from None
        if not same:
            raise _LeftOut(f"its server {parts.hostname} is not where the description lies; give the API's base URL")
        if parts.query or parts.fragment or ".." in parts.path.split("/"):
            raise _LeftOut("its server's address is not a plain path")
        return url.rstrip("/")

    def _parameters(self, item: Mapping[str, Any], given: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Those of the path, then those of the operation, which replace them by name and place."""
        found: dict[tuple[str, str], dict[str, Any]] = {}
        for holder in (item, given):
            listed = holder.get("parameters")
            for raw in cast("list[Any]", listed) if isinstance(listed, list) else ():
                declared = self._document.resolved(raw)
                found[str(declared.get("name")), str(declared.get("in"))] = declared
        return list(found.values())

    def _parameter(self, declared: Mapping[str, Any], taken: set[str]) -> Parameter | None:
        """None for one that no caller may set."""
        name, place = str(declared.get("name", "")), declared.get("in")
        required = declared.get("required") is True or place == "path"
        if place not in PLACES or not name:
            raise _LeftOut(f"it has a parameter in {str(place)[:40]!r}")
        style = str(declared.get("style") or DEFAULT_STYLES[place])
        if style not in STYLES[place]:
            raise _LeftOut(f"the style {style!r} of its parameter {name[:60]!r} is not supported")
        if place == "header":
            lower = name.lower()
            if lower in OWN_HEADERS or lower in self._given_headers or lower.startswith(("proxy-", "x-forwarded-")):
                return None
            if not _TOKEN.fullmatch(name):
                raise _LeftOut(f"{name[:60]!r} is not the name of a header")
        if place == "cookie" and ("cookie" in self._given_headers or not _TOKEN.fullmatch(name)):
            return None
        explode = declared.get("explode")
        return Parameter(
            argument=_argument(name, str(place), taken),
            name=name,
            place=place,
            style=style,
            explode=explode if isinstance(explode, bool) else style in ("form", "deepObject"),
            as_json=isinstance(declared.get("content"), dict),
            required=required,
        )

    def _body(
        self, given: Mapping[str, Any], converter: Converter, taken: set[str], properties: dict[str, Any]
    ) -> Body | None:
        if "requestBody" not in given:
            return None
        declared = self._document.resolved(given["requestBody"])
        content = declared.get("content")
        offered = cast("dict[str, Any]", content) if isinstance(content, dict) else {}
        required = declared.get("required") is True
        media_type = next((kind for test in (_is_json, _is_form, _is_text) for kind in offered if test(kind)), None)
        if media_type is None:
            if required:
                raise _LeftOut("its body is none of JSON, form and text")
            return None
        entry = self._document.resolved(offered[media_type])
        schema = converter.converted(entry.get("schema", {}))
        if text := _text(declared, "description", 1_000):
            schema = {**schema, "description": text}
        body = Body(_argument("body", "json", taken), plain(media_type), required)
        properties[body.argument] = schema
        return body

    def _output_schema(self, given: Mapping[str, Any]) -> dict[str, Any] | None:
        """The one JSON object that every success answers with; None where there is another or none."""
        declared = given.get("responses")
        responses = cast("dict[str, Any]", declared) if isinstance(declared, dict) else {}
        schemas: list[Any] = []
        for status, raw in responses.items():
            if not re.fullmatch(r"2(\d\d|XX)", status.upper()):
                continue
            try:
                content = self._document.resolved(raw).get("content")
            except Unresolvable:
                return None
            for kind, entry in (cast("dict[str, Any]", content) if isinstance(content, dict) else {}).items():
                if not _is_json(kind) or not isinstance(entry, dict):
                    return None
                schemas.append(cast("dict[str, Any]", entry).get("schema"))
        if not schemas or any(schema != schemas[0] for schema in schemas) or not self._is_object(schemas[0], 0):
            return None
        converter = Converter(self._document, "response")
        made = converter.converted(schemas[0])
        if isinstance(reference := made.get("$ref"), str):
            target = converter.definitions.get(reference.rsplit("/", 1)[-1])
            beside = {key: value for key, value in made.items() if key != "$ref"}
            made = {**cast("dict[str, Any]", target), **beside} if isinstance(target, dict) else beside
        made = {**made, "type": "object", **({"$defs": converter.definitions} if converter.definitions else {})}
        return made if _usable(made) else {"type": "object"}

    def _is_object(self, schema: Any, depth: int) -> bool:
        try:
            found = self._document.resolved(schema)
        except Unresolvable:
            return False
        if "type" in found or "properties" in found:
            return found.get("type", "object") in ("object", ["object"]) and found.get("nullable") is not True
        members = found.get("allOf")
        return (
            isinstance(members, list)
            and depth < 8
            and any(self._is_object(member, depth + 1) for member in cast("list[Any]", members)[:20])
        )

    def _tool_name(self, given: Mapping[str, Any], method: str, path: str) -> str:
        """Stable: what distinguishes a name is made from method and path, not from the order of operations."""
        said = given.get("operationId")
        name = _ascii(said) if isinstance(said, str) else ""
        name = name or _ascii(f"{method}{path}")
        if len(name) > LONGEST_NAME or name in self._names or not re.search("[A-Za-z0-9]", name):
            mark = hashlib.sha256(f"{method} {path}".encode()).hexdigest()[:6]
            name = f"{name[: LONGEST_NAME - 7]}_{mark}"
        if name in self._names:
            raise _LeftOut("its name is taken")
        self._names.add(name)
        return name


def plain(media_type: str) -> str:
    """A media type without parameters, in lower case."""
    return media_type.partition(";")[0].strip().lower()


def _is_json(media_type: str) -> bool:
    kind = plain(media_type)
    return kind == "application/json" or kind.endswith("+json")


def _is_form(media_type: str) -> bool:
    return plain(media_type) == "application/x-www-form-urlencoded"


def _is_text(media_type: str) -> bool:
    return plain(media_type).startswith("text/") and "*" not in media_type


def _ascii(text: str) -> str:
    return re.sub(r"_{2,}", "_", re.sub(r"[^A-Za-z0-9_-]", "_", text)).strip("_-")


def _argument(name: str, place: str, taken: set[str]) -> str:
    """A name for an argument that no other has: letters of any script, digits, `_`, `.` and `-`."""
    stem = re.sub(r"[^\w.-]+", "_", name).strip("_")[:LONGEST_NAME] or place
    candidate, number = stem, 2
    while candidate in taken:
        mark = f"_{place}" if number == 2 else f"_{place}_{number}"
        candidate, number = stem[: LONGEST_NAME - len(mark)] + mark, number + 1
    taken.add(candidate)
    return candidate


def _parameter_schema(declared: Mapping[str, Any]) -> Any:
    content = declared.get("content")
    if isinstance(content, dict):
        entry = next(iter(cast("dict[str, Any]", content).values()), None)
        return cast("dict[str, Any]", entry).get("schema", {}) if isinstance(entry, dict) else {}
    return declared.get("schema", {})


def _filled(url: str, variables: Any) -> str:
    given = cast("dict[str, Any]", variables) if isinstance(variables, dict) else {}

    def default(match: re.Match[str]) -> str:
        declared = given.get(match[1])
        return str(cast("dict[str, Any]", declared).get("default", "")) if isinstance(declared, dict) else ""

    return re.sub(r"{([^{}]+)}", default, url)


def _text(holder: Mapping[str, Any], key: str, longest: int) -> str:
    value = holder.get(key)
    return value.strip()[:longest] if isinstance(value, str) else ""


def _described(given: Mapping[str, Any], item: Mapping[str, Any], method: str, path: str) -> str:
    said = [_text(holder, key, LONGEST_DESCRIPTION) for key in ("summary", "description") for holder in (given,)]
    said = said if any(said) else [_text(item, "summary", 500), _text(item, "description", LONGEST_DESCRIPTION)]
    deprecated = ["Deprecated."] if given.get("deprecated") is True else []
    parts = list(dict.fromkeys(part for part in said if part))
    return "\n\n".join([*deprecated, *parts, f"{method.upper()} {path[:300]}"])


def _annotations(method: str) -> types.ToolAnnotations:
    reads = method in ("get", "head")
    return types.ToolAnnotations(
        read_only_hint=reads,
        # Not said of POST and PATCH: nobody knows, and silence means that they may destroy.
        destructive_hint=False if reads else (True if method in ("delete", "put") else None),
        idempotent_hint=reads or method in ("put", "delete"),
        open_world_hint=True,
    )


def _input_schema(properties: dict[str, Any], required: list[str], definitions: dict[str, Any]) -> dict[str, Any]:
    made: dict[str, Any] = {"type": "object", "properties": properties, "additionalProperties": False}
    if required:
        made["required"] = required
    if definitions:
        made["$defs"] = definitions
    if _usable(made):
        return made
    # One large schema spoils the whole: let through what it would have judged; the API judges it again.
    anything: dict[str, Any] = {}
    shared = {"$defs": definitions} if definitions else anything
    kept = {name: schema if _usable({**schema, **shared}) else anything for name, schema in properties.items()}
    if _usable(lighter := {**made, "properties": kept}):
        return lighter
    bare = {key: value for key, value in made.items() if key != "$defs"}
    return {**bare, "properties": dict.fromkeys(properties, anything)}


def _usable(schema: dict[str, Any]) -> bool:
    return len(json.dumps(schema)) <= LARGEST_SCHEMA
