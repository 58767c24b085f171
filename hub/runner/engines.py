"""Local engines as children: what was asked for becomes the command that the supervisor keeps running.

An engine is an ordinary child of kind `http`; only its command is ours. It is `trusted`, since it is our own code
over pinned weights, and it has no network face: it listens on the socket that the supervisor names.
"""

from __future__ import annotations

import importlib.util
import sys
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from hub.errors import InvalidParams, Unavailable
from hub.runner.llama import NOT_INSTALLED
from hub.runner.spec import ChildSpec
from hub.runner.weights import DEFAULT, WEIGHTS, WeightStore

LOAD_SECONDS = 120
"""A model of some gigabytes on a slow disk."""

ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
"""Threads that spin for work make a small query ten times slower on a busy machine."""


class EngineSpec(BaseModel):
    """Body of `PUT /engines/{name}`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["llama", "embedder"] = Field(description="Chat model or embeddings.")
    model: str = Field(
        default="", max_length=4096, description="Name of known weights or the path of a GGUF file (llama)."
    )
    threads: int = Field(default=0, ge=0, le=256, description="Threads that compute; 0 is half the cores (llama).")
    context: int = Field(default=4096, ge=256, le=2**20, description="Tokens of one conversation (llama).")
    parallel: int = Field(default=2, ge=1, le=64, description="Conversations at once (llama).")
    replicas: int = Field(default=1, ge=0, le=64, description="Processes.")
    start: Literal["lazy", "now"] = Field(default="lazy", description="At first use, or at once.")


def engine_child(spec: EngineSpec, weights: WeightStore) -> ChildSpec:
    """The child that is this engine. Reads only whether files are there.

    Raises `Unavailable` when the engine or its weights are not on this machine, with the command that gets them, and
    `InvalidParams` for weights that nobody knows.
    """
    common = {"kind": "http", "sandbox": "trusted", "replicas": spec.replicas, "start": spec.start}
    if spec.kind == "embedder":
        command = (sys.executable, "-m", "hub.runner.embedder")
        return ChildSpec.model_validate(common | {"command": command, "env": ONE_THREAD, "start_seconds": LOAD_SECONDS})
    if not _installed("xllamacpp"):
        raise Unavailable(NOT_INSTALLED, hint="pip install 'entrepot[local]', or register a model by its URL")
    wanted = spec.model or DEFAULT
    file = weights.find(wanted)
    if file is None and wanted not in WEIGHTS:
        raise InvalidParams(
            f"there is no model {wanted!r} here",
            hint=f"give the full path of a GGUF file, or one of {', '.join(WEIGHTS)}",
        )
    if file is None:
        raise Unavailable(f"the weights {wanted!r} are not on this machine yet", hint="entrepot up fetches them")
    context = min(spec.context, WEIGHTS[wanted].context) if wanted in WEIGHTS else spec.context
    command = (sys.executable, "-m", "hub.runner.llama", "--model", str(file))
    command += ("--name", wanted if wanted in WEIGHTS else file.stem)
    command += ("--context", str(context), "--parallel", str(spec.parallel), "--threads", str(spec.threads))
    return ChildSpec.model_validate(common | {"command": command, "start_seconds": LOAD_SECONDS})


def _installed(package: str) -> bool:
    """Whether it can be imported; without importing it, as its native code has no place in the runner."""
    try:
        return importlib.util.find_spec(package) is not None
    except ValueError:  # blocked in sys.modules
        return False
