"""Which system calls a sandbox may not make, compiled to the form that bubblewrap loads.

A deny list over an allowing default: what reaches for other processes, namespaces, keys, raw networks or rarely
audited parts of the kernel is refused; ordinary programs never notice. 64-bit values are masked to the 32 bits that
the kernel reads, or a call with upper bits set would slip through (CVE-2019-10063).
"""

from __future__ import annotations

import contextlib
import errno
import tempfile
from typing import Any

REFUSED = (
    # mounts and roots
    *("mount", "umount", "umount2", "pivot_root", "chroot", "move_mount", "open_tree", "open_tree_attr"),
    *("fsopen", "fsconfig", "fsmount", "fspick", "mount_setattr", "statmount", "listmount", "quotactl", "quotactl_fd"),
    # namespaces
    *("unshare", "setns"),
    # other processes
    *("ptrace", "process_vm_readv", "process_vm_writev", "process_madvise", "process_mrelease", "kcmp", "pidfd_getfd"),
    # the kernel's less travelled parts
    *("bpf", "perf_event_open", "userfaultfd", "io_uring_setup", "io_uring_enter", "io_uring_register"),
    *("kexec_load", "kexec_file_load", "init_module", "finit_module", "delete_module", "create_module"),
    *("lookup_dcookie", "fanotify_init", "fanotify_mark", "nfsservctl", "uselib", "vm86", "vm86old", "modify_ldt"),
    *("mbind", "set_mempolicy", "get_mempolicy", "migrate_pages", "move_pages", "memfd_secret", "remap_file_pages"),
    # keys
    *("keyctl", "add_key", "request_key"),
    # files by handle: leaves the mount namespace (CVE-2014-9357, "shocker")
    *("name_to_handle_at", "open_by_handle_at"),
    # the machine
    *("reboot", "swapon", "swapoff", "acct", "syslog", "iopl", "ioperm", "vhangup", "sethostname", "setdomainname"),
    *("clock_settime", "clock_adjtime", "adjtimex", "settimeofday", "stime", "personality", "ustat", "sysfs"),
)
"""Answered with EPERM."""

OFFLINE_REFUSED = ("memfd_create", "shmget", "msgget", "semget", "mq_open")
"""Memory that no limit of an unprivileged user counts; only refused where no third party's program has to run."""

NAMESPACE_FLAGS = (0x00000080, 0x00020000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000)
"""CLONE_NEWTIME, NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET."""

TIOCSTI, TIOCLINUX = 0x5412, 0x541C
"""Put characters into the terminal's input: a way out to the shell that started us (CVE-2017-5226)."""

WORD = 0xFFFFFFFF
AF_INET, AF_INET6, AF_NETLINK = 2, 10, 16
SOCK_RAW, SOCK_PACKET, SOCKET_TYPE_MASK = 3, 10, 0xF


def compile_filter(*, network: bool) -> bytes:
    """The classic BPF program for this machine's architecture.

    `network` keeps NETLINK_ROUTE, which interface look-ups need. Raises `ImportError` or `OSError` where libseccomp
    is missing.
    """
    import pyseccomp as library  # noqa: PLC0415  loads libseccomp, which only Linux has

    seccomp: Any = library
    rules: Any = seccomp.SyscallFilter(defaction=seccomp.ALLOW)
    refuse: Any = seccomp.ERRNO(errno.EPERM)

    def masked(position: int, mask: int, value: int) -> Any:
        return seccomp.Arg(position, seccomp.MASKED_EQ, mask, value)

    for name in (*REFUSED, *(() if network else OFFLINE_REFUSED)):
        with contextlib.suppress(ValueError, RuntimeError, OSError):  # unknown on this architecture, so uncallable
            rules.add_rule(refuse, name)
    # clone3 hides its flags in memory, where no filter can read them: glibc falls back to clone on ENOSYS.
    rules.add_rule(seccomp.ERRNO(errno.ENOSYS), "clone3")
    for flag in NAMESPACE_FLAGS[1:]:  # the low byte of clone's flags is the exit signal, so NEWTIME is no flag there
        rules.add_rule(refuse, "clone", masked(0, flag, flag))
    for request in (TIOCSTI, TIOCLINUX):
        rules.add_rule(refuse, "ioctl", masked(1, WORD, request))
    for family in (0, *range(AF_INET + 1, AF_INET6), *range(AF_INET6 + 1, AF_NETLINK)):
        rules.add_rule(refuse, "socket", masked(0, WORD, family))
    rules.add_rule(refuse, "socket", seccomp.Arg(0, seccomp.GT, AF_NETLINK))
    if network:
        rules.add_rule(refuse, "socket", masked(0, WORD, AF_NETLINK), seccomp.Arg(2, seccomp.NE, 0))
    else:
        rules.add_rule(refuse, "socket", masked(0, WORD, AF_NETLINK))
    for family in (AF_INET, AF_INET6):
        for kind in (SOCK_RAW, SOCK_PACKET):
            rules.add_rule(refuse, "socket", masked(0, WORD, family), masked(1, SOCKET_TYPE_MASK, kind))
    with tempfile.TemporaryFile() as program:
        rules.export_bpf(program)
        program.seek(0)
        return program.read()
