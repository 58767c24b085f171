"""What every declared form is made of: names, bounded texts, and no member that nobody knows."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, StringConstraints

NAME = r"^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$"
"""Letters, digits and inner hyphens, at most 40: fits a host name, a file name and a tool's prefix."""

Name = Annotated[str, StringConstraints(pattern=NAME)]
Text = Annotated[str, StringConstraints(max_length=4_000)]
Short = Annotated[str, StringConstraints(max_length=200)]


class Strict(BaseModel):
    """Unknown members are mistakes: a misspelt option must not be silently ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True)
