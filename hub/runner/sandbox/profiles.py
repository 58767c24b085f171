"""The three profiles: what an agent's run, a user's stdio server and a piece of code may do."""

from __future__ import annotations

from hub.errors import InvalidParams
from hub.runner.sandbox.base import MEBIBYTE, Limits, Profile

AGENT = Profile(name="agent", network=False, limits=Limits(seconds=600, cpu_seconds=120, output_bytes=4 * MEBIBYTE))
"""A run of an agent: its only way out is the socket folder that is bound in."""

SERVER = Profile(
    name="server",
    network=True,
    limits=Limits(
        memory_bytes=2048 * MEBIBYTE,
        processes=256,
        seconds=None,
        cpu_seconds=None,
        disk_bytes=512 * MEBIBYTE,
        files=1024,
        output_bytes=None,
    ),
)
"""A stdio server that a user added: lives long, fetches packages, talks to the world."""

OFFLINE_SERVER = Profile(name="server-offline", network=False, limits=SERVER.limits)
"""A stdio server whose entry says that it needs no network."""

CODE = Profile(name="code", network=False, limits=Limits())
"""Code that someone or some model wrote: nothing is bound, nothing leaves."""

PROFILES = {profile.name: profile for profile in (AGENT, SERVER, OFFLINE_SERVER, CODE)}


def profile_named(name: str) -> Profile:
    """The profile of that name. Raises `InvalidParams` if there is none."""
    profile = PROFILES.get(name)
    if profile is None:
        raise InvalidParams(f"there is no sandbox profile {name!r}", hint=f"use one of {', '.join(PROFILES)}")
    return profile
