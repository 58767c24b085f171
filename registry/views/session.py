"""Signing in by the one-time link, and out.

Opening the link shows a button and spends nothing, so that a mail scanner's or a chat's preview cannot use it up.
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from hub.audit.refusals import Refusals
from hub.errors import HubError, Unauthenticated
from registry.assets import PAGE_HEADERS
from registry.contexts import SignIn
from registry.screens import Page, Screens, broken, form_of, is_foreign, refused


class Session:
    """The three endpoints that exist outside a session."""

    def __init__(self, screens: Screens) -> None:
        self._screens = screens
        # Anybody may try a link, so that failures are recorded with a bound.
        self._refusals = Refusals(screens.audit, "signin")

    async def ask(self, request: Request) -> Response:
        """GET /sign-in: how to get a link, or the button that uses one."""
        cookie = self._screens.cookie_of(request)
        token = request.query_params.get("token", "")
        if cookie and not token and await self._screens.sessions.principal(cookie):
            return RedirectResponse("/", 303, PAGE_HEADERS)
        return await self._page(request, SignIn(token, local(request.query_params.get("next", ""))))

    async def redeem(self, request: Request) -> Response:
        """POST /sign-in: spend the link, set the cookie, go on."""
        form = await form_of(request)
        if is_foreign(request):
            return await self._page(request, SignIn(spent=True), 403)
        try:
            cookie = await self._redeemed(form.get("token", "").strip())
        except Unauthenticated as error:
            self._refusals.record(error, origin=request.client.host if request.client else "")
            return await self._page(request, SignIn(next=local(form.get("next", "")), spent=True), 403)
        except HubError as error:
            return await self._screens.page(request, broken(refused(error)))
        response = RedirectResponse(local(form.get("next", "")) or "/", 303, PAGE_HEADERS)
        response.headers.append("set-cookie", self._screens.sessions.cookie.set(cookie))
        return response

    async def sign_out(self, request: Request) -> Response:
        """POST /sign-out: end the session here and in the hub."""
        cookie = self._screens.cookie_of(request)
        form = await form_of(request)
        sessions = self._screens.sessions
        if cookie and not is_foreign(request) and sessions.check_csrf(cookie, form.get("csrf", "")):
            principal = await sessions.principal(cookie)
            await sessions.sign_out(cookie)
            response: Response = RedirectResponse("/sign-in", 303, PAGE_HEADERS)
            try:
                # After the fact: nobody is kept signed in because the audit's disk is full.
                with self._screens.audit.recording("signout", principal):
                    pass
            except HubError as error:
                response = await self._screens.page(request, broken(refused(error)))
            response.headers.append("set-cookie", sessions.cookie.clear())
            return response
        return RedirectResponse("/", 303, PAGE_HEADERS)

    async def _redeemed(self, token: str) -> str:
        """A new session's cookie for a link's token. Raises `Unauthenticated`, and `Unavailable` without the audit."""
        sessions, audit = self._screens.sessions, self._screens.audit
        audit.ensure_writable()
        cookie = await sessions.redeem(token)
        with audit.recording("signin", await sessions.principal(cookie)):
            return cookie

    async def _page(self, request: Request, context: SignIn, status: int = 200) -> Response:
        return await self._screens.page(request, Page("pages/sign_in.html", context, "signin.title", status=status))


def local(path: str) -> str:
    """A path of ours to go on to, or nothing: never another site (open redirect), never a control character."""
    safe = path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable() and "\\" not in path
    return path if safe else ""
