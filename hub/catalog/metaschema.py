"""Whether a schema is one: judged by the meta-schema of its dialect, which is here; nothing that it names is fetched.

A schema that is none makes model APIs refuse the whole list that it stands in, so its tool must not be passed on.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jsonschema_rs

DIALECTS: Mapping[str, str] = {
    "draft-04": "http://json-schema.org/draft-04/schema#",
    "draft-06": "http://json-schema.org/draft-06/schema#",
    "draft-07": "http://json-schema.org/draft-07/schema#",
    "2019-09": "https://json-schema.org/draft/2019-09/schema",
    "2020-12": "https://json-schema.org/draft/2020-12/schema",
}
LATEST = DIALECTS["2020-12"]
"""The dialect of a schema that names none, as MCP has it, and of one that names another than these."""

LONGEST = 200


def fault(schema: Mapping[str, Any]) -> str:
    """What makes a schema none, and where; empty when it is one."""
    named = schema.get("$schema", "")
    if not isinstance(named, str):
        return "$schema is not text"
    # Only names of dialects that are built in get through: for any other the library would go and fetch it.
    dialect = next((uri for mark, uri in DIALECTS.items() if mark in named), LATEST)
    try:
        jsonschema_rs.meta.validate({**schema, "$schema": dialect})
    except jsonschema_rs.ValidationError as error:
        where = ".".join(str(step) for step in error.instance_path)
        told = error.message.partition("\n")[0][:LONGEST]
        return f"{where}: {told}" if where else told
    except ValueError as error:
        return str(error)[:LONGEST]
    return ""
