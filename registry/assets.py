"""Static files under URLs that carry their digest, and the headers that every page is sent with."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

TYPES = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}

POLICY = "; ".join(
    (
        "default-src 'none'",
        "style-src 'self'",
        "script-src 'self'",
        "img-src 'self' data:",
        "media-src data:",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
"""No inline script or style, no foreign origin; `data:` for the pictures and sounds that tools return."""

PAGE_HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",
    "vary": "Cookie, Accept-Language",
}


@dataclass(frozen=True, slots=True)
class Assets:
    """Every static file in memory: `urls` by its plain name, `files` by its served name."""

    urls: Mapping[str, str]
    files: Mapping[str, tuple[str, bytes]]

    @classmethod
    def load(cls, folder: Path) -> Assets:
        """Read all files of `folder` and name each by its content."""
        urls: dict[str, str] = {}
        files: dict[str, tuple[str, bytes]] = {}
        for path in sorted(folder.iterdir()):
            if path.suffix not in TYPES:
                continue
            body = path.read_bytes()
            served = f"{path.stem}.{hashlib.sha256(body).hexdigest()[:12]}{path.suffix}"
            urls[path.name] = f"/static/{served}"
            files[served] = (TYPES[path.suffix], body)
        return cls(urls, files)

    async def serve(self, request: Request) -> Response:
        """GET /static/NAME: kept by the browser for good, since another content has another name."""
        found = self.files.get(request.path_params["name"])
        if found is None:
            return PlainTextResponse("Not found", 404)
        kind, body = found
        kept = {"cache-control": "public, max-age=31536000, immutable", "x-content-type-options": "nosniff"}
        return Response(body, media_type=kind, headers=kept)
