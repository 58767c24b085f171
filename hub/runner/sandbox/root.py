"""What a sandbox sees as its file system: the system's programs, our interpreter, private folders, nothing else."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import hub
from hub.errors import InvalidParams
from hub.runner.sandbox.base import Bind, Limits, Profile

WORKSPACE = Path("/workspace")
"""The working folder of a command, unless told otherwise."""

SHARED_MEMORY_BYTES = 16 * 2**20

SYSTEM_FILES = (
    *("/etc/alternatives", "/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/localtime"),
    *("/etc/mime.types", "/etc/ssl/certs", "/etc/ssl/openssl.cnf", "/etc/ca-certificates", "/etc/pki/tls/certs"),
    *("/etc/pki/ca-trust/extracted", "/etc/fonts", "/etc/nsswitch.conf", "/etc/protocols", "/etc/services"),
)
"""Public files that programs expect; never a key or a password file."""

NETWORK_FILES = ("/etc/resolv.conf", "/etc/hosts", "/etc/gai.conf", "/etc/pip.conf", "/etc/npmrc")

CLOSED_TARGETS = ("/proc", "/sys", "/dev", "/etc", "/usr", "/bin", "/sbin", "/lib", "/lib64")
CLOSED_SOURCES = (
    "/",
    "/etc",
    "/proc",
    "/sys",
    "/dev",
    "/boot",
    "/run",
    "/var",
    "/var/run",
    "/var/lib",
    "/root",
    "/home",
)

PRODUCT = ("hub", "agents", "registry")


def open_folders(paths: Iterable[Path]) -> list[str]:
    """The folders above these paths, for anyone to pass: bubblewrap would close them to all but root."""
    arguments: list[str] = []
    for path in paths:
        for folder in [*reversed(path.parents)][1:]:
            if folder != Path("/usr") and not folder.is_relative_to("/usr"):
                arguments += ["--perms", "0755", "--dir", str(folder)]
    return arguments


def interpreter_folders() -> list[Path]:
    """The installations of the interpreter that runs us and of its environment, outside /usr."""
    found: list[Path] = []
    for text in (sys.base_prefix, sys.prefix):
        for folder in (Path(text), Path(text).resolve()):
            if not folder.is_relative_to("/usr") and folder not in found and folder != Path("/"):
                found.append(folder)
    return found


def product_folders(profile: Profile) -> list[Path]:
    """Where our own code lies; bundled servers stay visible to servers, which they are."""
    top = Path(hub.__file__).resolve().parent.parent
    names = PRODUCT if profile.network else (*PRODUCT, "servers")
    return [top / name for name in names]


def system_arguments(profile: Profile) -> list[str]:
    """Arguments for the read-only system."""
    arguments = ["--ro-bind", "/usr", "/usr", *open_folders([Path("/etc/ssl/x"), Path("/etc/pki/tls/x")])]
    for name in ("bin", "sbin", "lib", "lib32", "lib64", "libx32"):
        folder = Path("/", name)
        if folder.is_symlink():
            arguments += ["--symlink", os.readlink(folder), str(folder)]
        elif folder.is_dir():
            arguments += ["--ro-bind", str(folder), str(folder)]
    for file in (*SYSTEM_FILES, *(NETWORK_FILES if profile.network else ())):
        arguments += ["--ro-bind-try", file, file]
    return arguments


def interpreter_arguments(profile: Profile, hidden: Iterable[Path]) -> list[str]:
    """Our interpreter read-only at its own path, with our own code and data masked where they lie inside it."""
    folders = interpreter_folders() if profile.python else []
    arguments: list[str] = []
    for folder in folders:
        arguments += [*open_folders([folder]), "--ro-bind", str(folder), str(folder)]
    visible = [Path("/usr"), *folders]
    for secret in [*product_folders(profile), *hidden]:
        if secret.is_dir() and any(secret.is_relative_to(folder) for folder in visible):
            arguments += ["--perms", "0000", "--size", "4096", "--tmpfs", str(secret), "--remount-ro", str(secret)]
    return arguments


def private_arguments(limits: Limits, targets: set[Path]) -> list[str]:
    """Devices, processes and writable folders of the sandbox's own, all bounded."""
    arguments = ["--proc", "/proc"]
    # Process 1 is bubblewrap's reaper: nothing about how it was started is the sandbox's business.
    arguments += ["--perms", "0555", "--size", "4096", "--tmpfs", "/proc/1", "--remount-ro", "/proc/1"]
    arguments += ["--dev", "/dev", "--perms", "1777", "--size", str(SHARED_MEMORY_BYTES), "--tmpfs", "/dev/shm"]
    arguments += ["--dir", "/var", "--symlink", "../tmp", "/var/tmp"]
    for folder in (Path("/tmp"), WORKSPACE):
        if folder not in targets:
            arguments += ["--perms", "1777", "--size", str(limits.disk_bytes), "--tmpfs", str(folder)]
    return arguments


def bind_arguments(binds: Sequence[Bind], hidden: Sequence[Path]) -> list[str]:
    """The given binds. Raises `InvalidParams` for one that would open the host or replace the system."""
    arguments: list[str] = []
    for bind in binds:
        check_bind(bind, hidden)
        arguments += open_folders([bind.target])
        arguments += ["--bind" if bind.writable else "--ro-bind", str(bind.source), str(bind.target)]
    return arguments


def check_bind(bind: Bind, hidden: Sequence[Path]) -> None:
    """Raises `InvalidParams` unless the bind names one thing of the host and a free place inside."""
    if not bind.source.is_absolute() or not bind.source.exists():
        raise InvalidParams(f"a sandbox cannot bind {str(bind.source)!r}: there is no such absolute path")
    source = bind.source.resolve()
    closed = {Path(text) for text in CLOSED_SOURCES} | {Path.home()}
    if source in closed or any(folder.is_relative_to(source) for folder in (*hidden, Path.home())):
        raise InvalidParams(
            f"a sandbox may not bind {str(bind.source)!r}: it holds more than one program's files",
            hint="bind the one folder that the program needs",
        )
    target = bind.target
    if not target.is_absolute() or ".." in target.parts or target in (Path("/"), Path("/tmp")):
        raise InvalidParams(f"{str(target)!r} is no place inside a sandbox")
    if any(target.is_relative_to(text) for text in CLOSED_TARGETS) and target != source:
        raise InvalidParams(f"{str(target)!r} belongs to the sandbox itself")
    if any(target.is_relative_to(text) for text in ("/proc", "/sys", "/dev")):
        raise InvalidParams(f"{str(target)!r} belongs to the sandbox itself")
