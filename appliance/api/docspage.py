"""The page that shows the API: one file that comes with the appliance, so that it works without the internet."""

from __future__ import annotations

import base64
import hashlib
import re
from importlib import resources

from starlette.requests import Request
from starlette.responses import Response


class DocsPage:
    """The page, with a policy under which nothing but its own script and style runs (Content Security Policy 3)."""

    def __init__(self) -> None:
        self._text = resources.files("appliance.api").joinpath("docs.html").read_text(encoding="utf-8")
        script, style = (_hash(self._text, tag) for tag in ("script", "style"))
        self._policy = (
            f"default-src 'none'; script-src {script}; style-src {style}; connect-src 'self'; "
            "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )

    async def show(self, _: Request) -> Response:
        """The page that shows this API."""
        headers = {"Content-Security-Policy": self._policy, "Cache-Control": "no-cache"}
        return Response(self._text, media_type="text/html", headers=headers)


def _hash(text: str, tag: str) -> str:
    found = re.search(f"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
    inside = found[1] if found else ""
    return f"'sha256-{base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()}'"
