"""Signing in to the web UI: a link that works once, then a cookie. Only hashes of either are stored.

The CSRF token is an HMAC under the cookie's secret value, so it needs no storage, dies with the session, and
cannot be made by a page that cannot read the cookie.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from urllib.parse import urlsplit

import anyio
from sqlmodel import col, delete

from hub.db.engine import Database
from hub.errors import InvalidParams, Unauthenticated
from hub.identity.models import SignInLink, UiSession
from hub.identity.principal import Principal
from hub.identity.scopes import DEFAULT_SCOPES
from hub.ids import Clock, new_id, system_clock

ADMINISTRATOR = "person:admin"
LINK_SECONDS = 15 * 60
SESSION_SECONDS = 12 * 3600
SECRET_BITS = 256
LONGEST_SECRET = 100


@dataclass(frozen=True, slots=True)
class Cookie:
    """The cookie's name and attributes, which depend on how the browser reaches the hub."""

    name: str
    secure: bool

    @classmethod
    def at(cls, url: str) -> Cookie:
        """For the hub's URL: `__Host-` binds the cookie to exactly this host, and needs https.

        Cookies do not heed ports, so two hubs on one machine need two names.
        """
        parts = urlsplit(url)
        if parts.scheme == "https":
            return cls("__Host-entrepot", True)
        return cls(f"entrepot_session_{parts.port or 80}", False)

    def set(self, value: str) -> str:
        """The `Set-Cookie` header that signs in."""
        return self._header(value, SESSION_SECONDS)

    def clear(self) -> str:
        """The `Set-Cookie` header that signs out."""
        return self._header("", 0)

    def _header(self, value: str, seconds: int) -> str:
        attributes = f"Path=/; Max-Age={seconds}; HttpOnly; SameSite=Lax"
        return f"{self.name}={value}; {attributes}{'; Secure' if self.secure else ''}"


class Sessions:
    """Sign-in links and UI sessions; awaited methods run the database in a thread."""

    def __init__(self, database: Database, url: str, clock: Clock = system_clock) -> None:
        """`url` is the hub's own (`Settings.url`): it decides the cookie's form."""
        self._database = database
        self._clock = clock
        self.cookie = Cookie.at(url)

    async def create_link(self, subject: str = ADMINISTRATOR) -> str:
        """The secret of a link that signs `subject` in, once, within 15 minutes."""
        if not subject.startswith("person:") or len(subject) > 200:
            raise InvalidParams("Only a person can sign in.", hint="The subject looks like person:NAME.")
        token = new_id(bits=SECRET_BITS)
        link = SignInLink(digest=_digest(token), subject=subject, expires=self._in(LINK_SECONDS))
        await anyio.to_thread.run_sync(self._insert_link, link)
        return token

    async def redeem(self, token: str) -> str:
        """Trade a link's secret for a new session's cookie value. Raises `Unauthenticated` for a used or old one."""
        if not _plausible(token):
            raise _no_such_link()
        return await anyio.to_thread.run_sync(self._redeem, _digest(token))

    async def principal(self, cookie: str) -> Principal | None:
        """Who is signed in with this cookie value; None when nobody is (any more)."""
        if not _plausible(cookie):
            return None
        return await anyio.to_thread.run_sync(self._principal, _digest(cookie))

    async def sign_out(self, cookie: str) -> None:
        """End the session, for every worker at once; an unknown one is fine."""
        if _plausible(cookie):
            await anyio.to_thread.run_sync(self._delete, _digest(cookie))

    def csrf(self, cookie: str) -> str:
        """The token that forms and scripts of this session carry."""
        return hmac.new(cookie.encode(), b"entrepot csrf", sha256).hexdigest()

    def check_csrf(self, cookie: str, token: str) -> bool:
        """Whether a form or script was made for this session."""
        return _plausible(cookie) and hmac.compare_digest(self.csrf(cookie).encode(), token.encode(errors="replace"))

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock(), UTC)

    def _in(self, seconds: int) -> datetime:
        return self._now() + timedelta(seconds=seconds)

    def _insert_link(self, link: SignInLink) -> None:
        with self._database.session() as session:
            session.exec(delete(SignInLink).where(col(SignInLink.expires) <= self._now()))
            session.exec(delete(UiSession).where(col(UiSession.expires) <= self._now()))
            session.add(link)

    def _redeem(self, digest: str) -> str:
        cookie = new_id(bits=SECRET_BITS)
        with self._database.session() as session:
            link = session.get(SignInLink, digest)
            # The delete decides who was first: of two browsers with one link exactly one removes the row.
            removed = session.exec(delete(SignInLink).where(col(SignInLink.digest) == digest)).rowcount
            if link is not None and removed == 1 and link.expires > self._now():
                session.add(
                    UiSession(
                        digest=_digest(cookie),
                        subject=link.subject,
                        created=self._now(),
                        expires=self._in(SESSION_SECONDS),
                    )
                )
                return cookie
        raise _no_such_link()

    def _principal(self, digest: str) -> Principal | None:
        with self._database.session() as session:
            row = session.get(UiSession, digest)
        if row is None or row.expires <= self._now():
            return None
        scopes = DEFAULT_SCOPES | {"admin"} if row.subject == ADMINISTRATOR else DEFAULT_SCOPES
        name = row.subject.removeprefix("person:")
        return Principal(row.subject, name, "person", scopes, expires=row.expires.timestamp())

    def _delete(self, digest: str) -> None:
        with self._database.session() as session:
            session.exec(delete(UiSession).where(col(UiSession.digest) == digest))


def _digest(secret: str) -> str:
    return sha256(secret.encode()).hexdigest()


def _plausible(secret: str) -> bool:
    return 0 < len(secret) <= LONGEST_SECRET and secret.isascii() and secret.isalnum()


def _no_such_link() -> Unauthenticated:
    return Unauthenticated("This sign-in link was used or has expired.", hint="Make a new one: entrepot sign-in.")
