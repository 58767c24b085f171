"""What a person sees in the terminal: steps with their time, errors with who must act, nothing that scrolls away."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Generator
from typing import IO

from hub.errors import HubError, Unavailable

SPIN_AFTER = 1.0
"""Seconds after which a step shows that it is alive."""

EXIT_CODES = {
    0: "done",
    1: "the hub or a server failed",
    2: "the command was used wrongly",
    3: "the hub is not running",
    4: "not allowed, or not found",
    5: "the answer is an error of the tool or agent",
}
"""Exit codes of every command."""


class Console:
    """Writes steps to stderr, so that stdout stays for results."""

    def __init__(self, out: IO[str] | None = None) -> None:
        self._out = out or sys.stderr
        self._lively = self._out.isatty()

    def say(self, text: str = "") -> None:
        """One line."""
        print(text, file=self._out, flush=True)

    @contextlib.contextmanager
    def step(self, text: str) -> Generator[Step]:
        """A step that may take long: its name at once, its progress while it runs, its time at the end."""
        step = Step(self._out, text, self._lively)
        step.start()
        try:
            yield step
        except BaseException:
            step.stop("failed")
            raise
        step.stop("")


class Step:
    """One step under way. `note` says how far it is."""

    def __init__(self, out: IO[str], text: str, lively: bool) -> None:
        self._out = out
        self._text = text
        self._lively = lively
        self._note = ""
        self._began = time.monotonic()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._live, daemon=True)

    def note(self, text: str) -> None:
        """How far it is."""
        self._note = text

    def start(self) -> None:
        """Show the step."""
        if self._lively:
            self._thread.start()
        else:
            print(f"  … {self._text}", file=self._out, flush=True)

    def stop(self, failure: str) -> None:
        """Show how it ended."""
        self._done.set()
        took = time.monotonic() - self._began
        mark, end = ("✗", failure) if failure else ("✓", f"{took:.1f} s")
        told = f" · {self._note}" if self._note and not failure else ""
        if self._lively:
            self._thread.join()
            print(f"\r\x1b[K  {mark} {self._text}{told} ({end})", file=self._out, flush=True)
        else:
            print(f"  {mark} {self._text}{told} ({end})", file=self._out, flush=True)

    def _live(self) -> None:
        for frame in _frames():
            print(f"\r\x1b[K  {frame} {self._text} {self._note}", end="", file=self._out, flush=True)
            if self._done.wait(0.1):
                return


def _frames() -> Generator[str]:
    while True:
        yield from "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"


class NotRunning(Unavailable):
    """No hub runs for this ENTREPOT_HOME."""


class ToolFailed(HubError):
    """The tool or agent answered, and its answer is an error."""

    owner = "server"


def exit_code(error: HubError) -> int:
    """The exit code that an error ends the command with."""
    if isinstance(error, NotRunning):
        return 3
    if isinstance(error, ToolFailed):
        return 5
    return 4 if error.status in (401, 403, 404) else 1


def told(error: HubError) -> str:
    """An error for the terminal: what, who must act, what to do next."""
    lines = [f"Error: {error.message}"]
    if error.hint:
        lines.append(f"  Next: {error.hint}")
    return "\n".join(lines)
