"""From a request to a page: who is signed in, in which language, with which form; and what a fault looks like.

Every page is a template and a frozen context; the same context is the page's `.json` twin.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote, unquote, urlencode

import orjson
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from hub.audit.recorder import Audit
from hub.errors import HubError
from hub.identity.principal import Principal
from hub.settings import Settings
from registry import formats
from registry.assets import PAGE_HEADERS, Assets
from registry.contexts import Broken
from registry.formats import Language
from registry.hubface import Api, Fault, HubFace
from registry.i18n import COOKIE as LANGUAGE_COOKIE
from registry.i18n import LANGUAGES, TAGS, Speaker, choose
from registry.markup import said, shown

HERE = Path(__file__).parent
FLASH_COOKIE = "entrepot_flash"
YEAR = 31_536_000
MOST_FIELDS = 400
NAVIGATION = (
    ("/", "nav.home"),
    ("/servers", "nav.servers"),
    ("/agents", "nav.agents"),
    ("/runs", "nav.runs"),
    ("/models", "nav.models"),
    ("/connect", "nav.connect"),
    ("/keys", "nav.keys"),
    ("/limits", "nav.limits"),
    ("/audit", "nav.audit"),
    ("/logs", "nav.logs"),
)


class SessionCookie(Protocol):
    """The session cookie: its name, and the `Set-Cookie` headers that set and clear it."""

    @property
    def name(self) -> str:
        """Its name, which depends on the hub's URL."""
        ...

    def set(self, value: str) -> str:
        """The header that signs in."""
        ...

    def clear(self) -> str:
        """The header that signs out."""
        ...


class Sessions(Protocol):
    """What the pages need of `hub.identity.sessions.Sessions`."""

    @property
    def cookie(self) -> SessionCookie:
        """The session cookie."""
        ...

    async def redeem(self, token: str) -> str:
        """The cookie value for a one-time link's token; raises HubError when it is spent."""
        ...

    async def principal(self, cookie: str) -> Principal | None:
        """Who is signed in with this cookie, or None."""
        ...

    async def sign_out(self, cookie: str) -> None:
        """End the session."""
        ...

    def csrf(self, cookie: str) -> str:
        """The token that every form of this session carries."""
        ...

    def check_csrf(self, cookie: str, token: str) -> bool:
        """Whether a form's token belongs to the session."""
        ...


@dataclass(frozen=True, slots=True)
class Visit:
    """One request of a signed-in person, as the views see it."""

    hub: HubFace
    settings: Settings
    speaker: Speaker
    path: Mapping[str, str]
    query: Mapping[str, str]
    form: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True)
class Page:
    """A template with its context. `title` is a key of the catalogue; `subject` stands before it."""

    template: str
    context: Any
    title: str
    subject: str = ""
    status: int = 200


@dataclass(frozen=True, slots=True)
class Moved:
    """After a change: where to go, and the key of what to say there, about whom."""

    to: str
    said: str = ""
    about: str = ""


View = Callable[[Visit], Awaitable[Page | Moved]]
Endpoint = Callable[[Request], Awaitable[Response]]


class Screens:
    """Turns views into endpoints. Holds what never changes: templates, static files and the hub's faces."""

    def __init__(self, settings: Settings, api: Api, sessions: Sessions, audit: Audit) -> None:
        self.settings = settings
        self.api = api
        self.sessions = sessions
        self.audit = audit
        self.assets = Assets.load(HERE / "static")
        self._templates = Environment(
            loader=FileSystemLoader(HERE / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            finalize=shown,
        )
        self._templates.filters.update(said=said, pretty=formats.pretty, number=formats.number, stamp=formats.stamp)
        self._templates.filters.update(segment=lambda name: quote(str(name), safe=""))

    def endpoint(self, view: View) -> Endpoint:
        """An endpoint for signed-in people; the path's `.json` twin answers with the context itself."""

        async def answer(request: Request) -> Response:
            wants_json = request.url.path.endswith(".json")
            cookie = self.cookie_of(request)
            principal = await self._principal(request, cookie, wants_json)
            if principal is None:
                return self._sign_in_first(request, wants_json)
            visit = self._visit(request, principal)
            try:
                if request.method == "POST":
                    visit = await self._with_form(request, visit, cookie)
                outcome = await view(visit)
            except Fault as fault:
                outcome = broken(fault)
            if isinstance(outcome, Moved):
                return self._moved(request, outcome)
            if wants_json:
                return as_json(outcome)
            return await self.page(request, outcome, principal, cookie)

        return answer

    async def page(
        self, request: Request, page: Page, principal: Principal | None = None, cookie: str = ""
    ) -> Response:
        """A page as HTML, with the shell around it."""
        language = language_of(request)
        speaker = Speaker(language)
        flash, _, about = unquote(request.cookies.get(FLASH_COOKIE, "")).partition("|")
        body = self._templates.get_template(page.template).render(
            page=page.context,
            title=page.title,
            subject=page.subject,
            shell=self._shell(request, language, principal),
            csrf=self.sessions.csrf(cookie) if principal else "",
            flash=speaker.say(flash, about=about) if speaker.knows(flash) and flash.startswith("done.") else "",
            say=speaker.say,
            rich=speaker.rich,
            term=speaker.term,
            moment=partial(formats.moment, language=language),
            instant=partial(formats.instant, language=language),
            duration=partial(formats.duration, language=language),
        )
        response = Response(body, page.status, PAGE_HEADERS, "text/html; charset=utf-8")
        response.headers["content-language"] = TAGS[language]
        if request.query_params.get("lang") in LANGUAGES:
            response.set_cookie(LANGUAGE_COOKIE, language, max_age=YEAR, samesite="lax", path="/")
        if flash:
            response.delete_cookie(FLASH_COOKIE, path="/")
        return response

    def cookie_of(self, request: Request) -> str:
        """The session cookie's value, or nothing."""
        return request.cookies.get(self.sessions.cookie.name, "")

    def secure(self, request: Request) -> bool:
        """Whether cookies are for TLS only: where the hub is reached over https."""
        return request.url.scheme == "https" or self.settings.url.startswith("https:")

    def _shell(self, request: Request, language: Language, principal: Principal | None) -> dict[str, Any]:
        path = request.url.path
        here = path.partition("/")[2].partition("/")[0]
        switches = [
            (
                TAGS[other],
                f"language.{other}",
                "?" + urlencode({**request.query_params, "lang": other}),
                other == language,
            )
            for other in LANGUAGES
        ]
        return {
            "language": TAGS[language],
            "languages": switches,
            "navigation": [(to, key, to == f"/{here}", to == path) for to, key in NAVIGATION] if principal else [],
            "who": principal.name if principal else "",
            "asset": self.assets.urls,
            "here": path,
        }

    def _visit(self, request: Request, principal: Principal) -> Visit:
        path = {name: str(value) for name, value in request.path_params.items()}
        speaker = Speaker(language_of(request))
        return Visit(HubFace(self.api, principal), self.settings, speaker, path, request.query_params)

    async def _principal(self, request: Request, cookie: str, wants_json: bool) -> Principal | None:
        """By cookie; a `.json` page also takes whoever the hub authenticated by a key, for programs that read it."""
        found = await self.sessions.principal(cookie) if cookie else None
        if found is None and wants_json and "authorization" in request.headers:
            found = request.scope.get("principal")
        return found

    async def _with_form(self, request: Request, visit: Visit, cookie: str) -> Visit:
        """The visit with its form. Raises Fault for a form that was not made by a page of this session."""
        form = await form_of(request)
        if is_foreign(request) or not self.sessions.check_csrf(cookie, form.get("csrf", "")):
            raise Fault(403, "form-expired", "This form does not belong to the present session.", owner="client")
        return Visit(visit.hub, visit.settings, visit.speaker, visit.path, visit.query, form)

    def _sign_in_first(self, request: Request, wants_json: bool) -> Response:
        if wants_json:
            problem = {"status": 401, "code": "unauthenticated", "title": "Sign in first", "owner": "client"}
            return Response(orjson.dumps(problem), 401, PAGE_HEADERS, "application/problem+json")
        back = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        to = "/sign-in" if request.method != "GET" or back == "/" else "/sign-in?" + urlencode({"next": back})
        return RedirectResponse(to, 303, PAGE_HEADERS)

    def _moved(self, request: Request, moved: Moved) -> Response:
        response = RedirectResponse(moved.to, 303, PAGE_HEADERS)
        if moved.said:
            response.set_cookie(
                FLASH_COOKIE,
                quote(f"{moved.said}|{moved.about[:200]}"),
                max_age=60,
                httponly=True,
                samesite="lax",
                secure=self.secure(request),
            )
        return response


async def form_of(request: Request) -> dict[str, str]:
    """The fields of a form; files are not taken."""
    async with request.form(max_fields=MOST_FIELDS, max_files=0) as sent:
        return {name: value for name, value in sent.items() if isinstance(value, str)}


def is_foreign(request: Request) -> bool:
    """Whether the browser says that another site made it send this (Fetch Metadata)."""
    return request.headers.get("sec-fetch-site", "same-origin") == "cross-site"


def language_of(request: Request) -> Language:
    """The language of a request."""
    return choose(
        request.query_params.get("lang", ""),
        request.cookies.get(LANGUAGE_COOKIE, ""),
        request.headers.get("accept-language", ""),
    )


def broken(fault: Fault) -> Page:
    """The page that says what did not work, why, who must act and what to do next."""
    known = {401: "denied", 403: "denied", 404: "missing"}
    kind = "expired" if fault.code == "form-expired" else known.get(fault.status, "broken")
    context = Broken(kind, fault.code, fault.message, fault.owner, fault.hint, fault.trace, fault.status)
    return Page("pages/broken.html", context, f"broken.{kind}", status=fault.status)


def as_json(page: Page) -> Response:
    """A page's context as JSON."""
    body = orjson.dumps(page.context, option=orjson.OPT_NON_STR_KEYS, default=str)
    return Response(body, page.status, PAGE_HEADERS, "application/json")


def refused(error: HubError) -> Fault:
    """An error of the hub's own tree, raised by a face that is called directly."""
    return Fault(error.status, error.code, error.message, owner=error.owner, hint=error.hint)
