"""The last words of processes, as real programs say them, lead to the right name."""

from __future__ import annotations

import pytest

from hub.doctor.process import judged

ENDED = "server 'x' ended at once (exit code {})"
HERE = {"/home/ann/server.py", "/data/notes.db"}

WORDS = [
    (1, "  × No solution found when resolving tool dependencies:\n  ╰─▶ Because no-such was not found in the package "
        "registry and you require no-such==1.0", "package-not-found"),
    (1, "npm error code E404\nnpm error 404 Not Found - GET https://registry.npmjs.org/no-such", "package-not-found"),
    (1, "npm error code ETARGET\nnpm error notarget No matching version found for x@9.9.9", "package-not-found"),
    (1, "node:internal/modules\nError: Cannot find module '@modelcontextprotocol/sdk'", "missing-module"),
    (1, "Traceback (most recent call last):\n  File \"/usr/lib/python3/x.py\", line 1, in <module>\n    import httpx\n"
        "ModuleNotFoundError: No module named 'httpx'", "missing-module"),
    (1, "ImportError: cannot import name 'McpError' from 'mcp' (/venv/mcp/__init__.py)", "sdk-version"),
    (1, "ModuleNotFoundError: No module named 'mcp.server.fastmcp'", "sdk-version"),
    (1, "npm error engine Unsupported engine\nnpm error engine Not compatible", "runtime-version"),
    (1, "  File \"/srv/x.py\", line 3\n    match x:\nSyntaxError: invalid syntax", "runtime-version"),
    (1, "Error: ENOENT: no such file or directory, open '/data/notes.db'", "hidden-file"),
    (1, "FileNotFoundError: [Errno 2] No such file or directory: '/data/other.db'", "missing-file"),
    (2, "/usr/bin/python3: can't open file '/home/ann/server.py': [Errno 2] No such file or directory", "hidden-file"),
    (127, "prlimit: failed to execute uvxx: No such file or directory", "command-not-found"),
    (127, "/bin/sh: 1: uvxx: command not found", "command-not-found"),
    (127, "", "command-not-found"),
    (126, "", "permission-denied"),
    (1, "PermissionError: [Errno 13] Permission denied: '/var/log/x.log'", "permission-denied"),
    (1, "OSError: [Errno 30] Read-only file system: '/usr/x'", "permission-denied"),
    (1, "Error: BRAVE_API_KEY environment variable is required", "missing-env"),
    (1, "Missing required environment variable: GITHUB_PERSONAL_ACCESS_TOKEN", "missing-env"),
    (1, "Please set the SLACK_BOT_TOKEN environment variable", "missing-env"),
    (1, "KeyError: 'DATABASE_URL'", "missing-env"),
    (2, "usage: server --root ROOT\nserver: error: the following arguments are required: --root", "wrong-arguments"),
    (1, "Error: getaddrinfo ENOTFOUND api.example.com", "network-from-process"),
    (1, "httpx.ConnectError: [Errno -3] Temporary failure in name resolution", "network-from-process"),
    (134, "FATAL ERROR: Reached heap limit Allocation failed - JavaScript heap out of memory", "out-of-memory"),
    (137, "", "out-of-memory"),
    (143, "", "killed"),
    (0, "", "ends-at-once"),
    (1, "RuntimeError: it broke", "crash-at-start"),
    (3, "", "crash-at-start"),
]  # fmt: skip


@pytest.mark.parametrize(("code", "words", "name"), WORDS)
def test_last_words_are_understood(code: int, words: str, name: str) -> None:
    finding = judged(ENDED.format(code), words, HERE.__contains__)
    assert finding.check.code == name
    assert f"exit code {code}" in finding.seen
    assert not words or words.splitlines()[-1].strip()[:40] in finding.seen
