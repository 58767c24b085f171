"""Structured logs: one line per event, to standard error and to a file per process, secrets stripped.

Fields given as `extra={...}` become members of the line. The libraries' loggers (uvicorn's too) go the same way.
"""

from __future__ import annotations

import logging
import logging.handlers
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import orjson

from hub.settings import Settings
from hub.telemetry.redaction import redact

FILE_BYTES = 10 * 2**20
FILES_KEPT = 3
OURS = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}
"""What every record has; anything else came from the caller's `extra`."""

QUIET = ("httpx", "httpcore", "asyncio", "alembic", "uvicorn.access", "multipart", "python_multipart", "urllib3")
"""Loggers that tell of every request or step; their warnings are kept."""


class JsonLines(logging.Formatter):
    """A record as one JSON object: at, source, level, logger, message, then the extra fields."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self._source = source

    def format(self, record: logging.LogRecord) -> str:
        """The line, without a newline."""
        line: dict[str, Any] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "source": self._source,
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": redact(record.getMessage()),
        }
        for name, value in _extra(record).items():
            line.setdefault(name, redact(value) if isinstance(value, str) else value)
        if record.exc_info:
            line["exception"] = redact(self.formatException(record.exc_info))
        return orjson.dumps(line, default=_shown, option=orjson.OPT_NON_STR_KEYS).decode()


class TextLines(logging.Formatter):
    """A record for a person at a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, with the traceback below it if there is one."""
        moment = datetime.fromtimestamp(record.created).strftime("%H:%M:%S")
        extra = "".join(f" {name}={_shown(value)}" for name, value in _extra(record).items())
        text = f"{moment} {record.levelname.lower():<7} {record.name}: {redact(record.getMessage())}{redact(extra)}"
        # A newline in a message would let a caller forge the line after it.
        text = text.replace("\n", "\\n").replace("\r", "\\r")
        return f"{text}\n{redact(self.formatException(record.exc_info))}" if record.exc_info else text


def configure(settings: Settings, source: str, *, to_file: bool = True) -> None:
    """Set up logging for the process named `source`: called once, at its start.

    The file is `logs/SOURCE.log` (JSON lines, mode 0600); standard error has the form of `settings.log_format`.
    """
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stderr)]
    handlers[0].setFormatter(TextLines() if settings.log_format == "text" else JsonLines(source))
    if to_file:
        settings.logs_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = settings.logs_dir / f"{source}.log"
        path.touch(mode=0o600)
        file = logging.handlers.RotatingFileHandler(path, maxBytes=FILE_BYTES, backupCount=FILES_KEPT, delay=True)
        file.setFormatter(JsonLines(source))
        handlers.append(file)
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
        old.close()
    for handler in handlers:
        root.addHandler(handler)
    root.setLevel(settings.log_level.upper())
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
    for name in QUIET:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
    # A formatter that fails must not print the record's raw arguments to standard error.
    logging.raiseExceptions = False


def _extra(record: logging.LogRecord) -> Mapping[str, Any]:
    return {name: value for name, value in vars(record).items() if name not in OURS and not name.startswith("_")}


def _shown(value: object) -> str:
    return redact(str(value))
