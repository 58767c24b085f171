"""Why a process that the hub starts does not serve: its exit code and last words, read for what they say. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from hub.doctor.checks import Finding, found
from hub.upstream import jsonrpc

Exists = Callable[[str], bool]

LAST_LINES = 6
OUT_OF_MEMORY = 137
NOT_EXECUTABLE = 126
NOT_FOUND = 127

_CODE = re.compile(r"exit code (-?\d+)")
_VARIABLE = r"([A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+|[A-Z]{4,})"
_MISSING_ENV = (
    re.compile(rf"KeyError: '{_VARIABLE}'"),
    re.compile(rf"(?i:environment variable|env var|variable)\W+(?i:named\W+)?{_VARIABLE}"),
    re.compile(
        rf"{_VARIABLE}\b[^\n]{{0,40}}(?i:is not set|not set|is required|must be set|is missing|not provided|undefined)"
    ),
    re.compile(rf"(?i:missing|requires?|set|provide|need)\b[^\n]{{0,30}}\b{_VARIABLE}"),
)
_PATH = re.compile(r"""(?:file|directory|open|execvp|exec|path|lstat|'|"|:)\s*['"]?(/[^\s'":,]+)""")
_ABSENT = re.compile(r"(?i)no such file or directory|ENOENT|can't open file|cannot find the file")
_NOT_FOUND = re.compile(
    r"(?i)failed to execute (\S+): no such file|execvp\s+(\S+?):? no such file|command not found"
    r"|FileNotFoundError.*execv|spawn (\S+) ENOENT"
)
_DENIED = re.compile(r"(?i)permission denied|EACCES|EPERM|read-only file system|EROFS|operation not permitted")
_MODULE = re.compile(r"(?:No module named|Cannot find (?:module|package)) '?([^'\s]+)'?|ERR_MODULE_NOT_FOUND")
_SDK = re.compile(r"(?:ImportError: cannot import name .* from '(?:mcp|fastmcp)|No module named '(?:mcp|fastmcp)\.)")
_RUNTIME = re.compile(
    r"(?i)SyntaxError|requires-python|requires a different python|Unsupported engine|EBADENGINE|requires Node"
    r"|does not satisfy Python"
)
_ARGUMENTS = re.compile(
    r"(?im)^usage:|unrecognized arguments|unknown option|invalid option|required: |the following arguments"
)
_PACKAGE = re.compile(
    r"(?i)not found in the package registry|no solution found|no matching distribution|E404|404 Not Found"
    r"|there is no version of|ETARGET"
)
_MEMORY = re.compile(r"MemoryError|(?i:out of memory|heap limit|cannot allocate memory)")
_NETWORK = re.compile(
    r"(?i)name resolution|ENOTFOUND|EAI_AGAIN|network is unreachable|ECONNREFUSED|connection refused|could not resolve"
    r"|getaddrinfo|ConnectError|no route to host"
)


def judged(message: str, stderr: str, exists: Exists) -> Finding:
    """The finding for a process that ended before it served; `exists` tells whether a file is on this machine."""
    told = _CODE.search(message)
    code = int(told[1]) if told else None
    seen = _seen(message, stderr)
    for name in _by_words(stderr, exists):
        return found(name, seen)
    if code == OUT_OF_MEMORY:
        return found("out-of-memory", seen)
    if code == NOT_FOUND:
        return found("command-not-found", seen)
    if code == NOT_EXECUTABLE:
        return found("permission-denied", seen)
    if code == 2 and _ARGUMENTS.search(stderr):
        return found("wrong-arguments", seen)
    if code == 0:
        return found("ends-at-once", seen)
    if code is not None and code > 128:
        return found("killed", seen)
    return found("crash-at-start", seen)


def refusal(heard: Mapping[str, Any]) -> tuple[str, str]:
    """Message and last words in the error with which the runner answers for a child."""
    error: Any = heard.get("error")
    told = jsonrpc.mapping(error)
    stderr = str(jsonrpc.mapping(told.get("data")).get("stderr", ""))
    return str(told.get("message", "")), stderr


def _by_words(stderr: str, exists: Exists) -> list[str]:
    """What the last words say, the surest first."""
    if _SDK.search(stderr):
        return ["sdk-version"]
    if _MEMORY.search(stderr):
        return ["out-of-memory"]
    if _PACKAGE.search(stderr):
        return ["package-not-found"]
    if _MODULE.search(stderr):
        return ["missing-module"]
    if _RUNTIME.search(stderr):
        return ["runtime-version"]
    if _NOT_FOUND.search(stderr) or _ABSENT.search(stderr):
        return [_absent(stderr, exists)]
    if _DENIED.search(stderr):
        return ["permission-denied"]
    if _ARGUMENTS.search(stderr):
        return ["wrong-arguments"]
    if any(pattern.search(stderr) for pattern in _MISSING_ENV):
        return ["missing-env"]
    if _NETWORK.search(stderr):
        return ["network-from-process"]
    return []


def _absent(stderr: str, exists: Exists) -> str:
    """A file that was looked for in vain: the last that such a line names, since it may name the program first."""
    lines = [line for line in stderr.splitlines() if _ABSENT.search(line) or _NOT_FOUND.search(line)]
    named = [paths[-1].rstrip(").") for line in lines if (paths := _PATH.findall(line))]
    if any(map(exists, named)):
        return "hidden-file"
    return "command-not-found" if any(_NOT_FOUND.search(line) for line in lines) else "missing-file"


def _seen(message: str, stderr: str) -> str:
    last = list(dict.fromkeys(line.strip() for line in stderr.splitlines() if line.strip()))[-LAST_LINES:]
    return "\n".join([message[:300], *(f"| {line[:300]}" for line in last)])
