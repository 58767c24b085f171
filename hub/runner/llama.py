"""A local chat model as a process of its own: `python -m hub.runner.llama --model FILE --uds PATH`.

llama.cpp's own HTTP server, OpenAI-compatible, behind a unix socket that only its owner may open. In a process of its
own, since a fault in native code must not take the runner down. The socket appears when the model is loaded.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
from pathlib import Path
from typing import Any

NOT_INSTALLED = "the local engine is not installed: pip install 'entrepot[local]'"
EXIT_CANNOT_START = 78
"""sysexits' EX_CONFIG: starting it again will not help."""


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m hub.runner.llama", description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="GGUF file")
    parser.add_argument("--uds", type=Path, required=True, help="socket to listen on")
    parser.add_argument("--name", default="", help="name of the model in answers; the file's unless told")
    parser.add_argument("--threads", type=int, default=0, help="threads that compute; 0 is half the cores")
    parser.add_argument("--context", type=int, default=4096, help="tokens of one conversation")
    parser.add_argument("--parallel", type=int, default=2, help="conversations at once")
    return parser.parse_args(arguments)


def parameters(options: argparse.Namespace, socket: Path, engine: Any) -> Any:
    """The engine's parameters for these options."""
    wanted = engine.CommonParams()
    wanted.model.path = str(options.model)
    wanted.model_alias = {options.name or options.model.stem}
    wanted.hostnames = [str(socket)]
    wanted.n_parallel = options.parallel
    wanted.n_ctx = options.context * options.parallel  # shared out among the conversations
    wanted.cache_ram_mib = 256
    wanted.endpoint_metrics = True
    wanted.endpoint_slots = False  # they show other callers' prompts
    wanted.ui = False
    wanted.verbosity = 1  # errors only: anything above prints prompts
    for computing in (wanted.cpuparams, wanted.cpuparams_batch):
        # Threads meet after each layer and spin there: with one core busy elsewhere, two are fifty times slower
        # than one. Half the cores leaves room, and nobody polls for work that is not there.
        computing.n_threads = options.threads or max(1, (os.cpu_count() or 1) // 2)
        computing.poll = 0
    return wanted


def main(arguments: list[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT. Returns the exit status."""
    options = parse(arguments)
    try:
        import xllamacpp  # noqa: PLC0415  an optional package of 100 MB
    except ImportError:
        print(NOT_INSTALLED, file=sys.stderr)
        return EXIT_CANNOT_START
    engine: Any = xllamacpp
    if not options.model.is_file():
        print(f"there is no model file {options.model}", file=sys.stderr)
        return EXIT_CANNOT_START
    ending = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, ending)  # before the engine's threads exist, which inherit it
    os.umask(0o077)
    # The engine takes an address for a socket by its ending; and it must not be seen before it answers.
    making = options.uds.with_name(f".{os.getpid()}.sock")
    making.unlink(missing_ok=True)
    try:
        server = engine.Server(parameters(options, making, engine))
    except RuntimeError as fault:
        print(f"the model could not be loaded: {fault}", file=sys.stderr)
        return EXIT_CANNOT_START
    making.chmod(0o600)
    making.replace(options.uds)
    signal.sigwait(ending)
    with contextlib.suppress(OSError):
        options.uds.unlink()
    del server
    return 0


if __name__ == "__main__":
    sys.exit(main())
