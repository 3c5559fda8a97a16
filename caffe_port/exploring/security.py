"""Guards the server: token, Host, Origin, sizes and times of requests, headers of all answers.

Another web page in the user's browser can send requests to this machine, and by DNS rebinding even
read their answers; a program of another user can connect. Neither knows the token.
"""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import re
import secrets
from collections.abc import Collection
from typing import Any
from urllib.parse import urlsplit

from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from caffe_port.errors import UsageError
from caffe_port.exploring.sessions import Limits

TOKEN_VARIABLE = "CAFFE_PORT_EXPLORE_TOKEN"
_TOKEN = re.compile(r"[A-Za-z0-9_-]{22,128}")
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_METHODS = ("GET", "HEAD", "POST")
_NOTEBOOKS = "http://localhost:* http://127.0.0.1:* https://localhost:* vscode-webview:"


def make_token(given: str | None = None) -> str:
    """A random token, or a given one.

    Raises:
        UsageError: the given one could be guessed, or does not fit into an address.
    """
    if not given:
        return secrets.token_urlsafe(24)
    if not _TOKEN.fullmatch(given):
        raise UsageError(
            f"{TOKEN_VARIABLE} has {len(given)} characters; expected 22 to 128 random letters, "
            "digits, - and _"
        )
    return given


def is_loopback(host: str) -> bool:
    """Whether only programs on this machine can connect to that address."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Guard:
    """Refuses what does not come from the server's own page.

    Args:
        app: what is guarded; it sees paths without the token.
        token: the first part of every path.
        names: host names, besides this machine's loopback ones, by which it may be called.
        limits: of bodies.
        framed: whether a notebook on this machine may show the page in a frame.
    """

    def __init__(
        self, app: ASGIApp, token: str, names: Collection[str], limits: Limits, *,
        framed: bool = False,
    ) -> None:  # fmt: skip
        self._app, self._token, self._limits = app, token.encode(), limits
        self._names = {*_LOOPBACK, *(name.lower().rstrip(".") for name in names)}
        self._any_address = any(not is_loopback(name) for name in names)
        self._headers = _headers(framed)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        guarded = _Exchange(receive, send, self._headers, self._limits)
        reason = self._refusal(scope) or guarded.announced(scope)
        if reason is not None:
            await refusal(*reason)(scope, receive, guarded.send)
            return
        path = scope["path"][1 + len(self._token) :] or "/"
        inside = {**scope, "path": path, "raw_path": path.encode()}
        await self._app(inside, guarded.receive, guarded.send)

    def _refusal(self, scope: Scope) -> tuple[int, str] | None:
        """Status and reason, or None for a request that may pass."""
        headers = {name.lower(): value.decode("latin-1") for name, value in scope["headers"]}
        host = headers.get(b"host", "")
        if not self._is_own(host) or sum(n.lower() == b"host" for n, _ in scope["headers"]) != 1:
            return 421, "this server answers only to its own address; start it with --host NAME"
        origin = headers.get(b"origin")
        if origin is not None and origin != f"http://{host}":
            return 403, "requests of other pages are refused"
        if headers.get(b"sec-fetch-site") == "cross-site" and scope["path"].count("/") > 2:
            return 403, "requests of other pages are refused"
        if scope["method"] not in _METHODS:
            return 405, "expected GET, HEAD or POST"
        token, slash, _ = scope["path"].removeprefix("/").partition("/")
        if not hmac.compare_digest(token.encode("utf-8", "replace"), self._token) or not slash:
            return 403, "open the address that caffe-port explore printed: it has the token"
        return None

    def _is_own(self, host: str) -> bool:
        """Whether a Host header names this server; the port may be that of a tunnel."""
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        if name.rstrip(".") in self._names:
            return True
        if not self._any_address:
            return False
        try:
            ipaddress.ip_address(name)  # rebinding needs a name
        except ValueError:
            return False
        return True


def _headers(framed: bool) -> list[tuple[bytes, bytes]]:
    ancestors = _NOTEBOOKS if framed else "'none'"
    policy = (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
        f"connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors {ancestors}"
    )
    found = {
        "content-security-policy": policy,
        "referrer-policy": "no-referrer",
        "x-content-type-options": "nosniff",
        "cross-origin-resource-policy": "same-origin",
        "cross-origin-opener-policy": "same-origin",
        "permissions-policy": "camera=(), microphone=(), geolocation=()",
        "cache-control": "no-store",
        **({} if framed else {"x-frame-options": "DENY"}),
    }
    return [(name.encode(), value.encode()) for name, value in found.items()]


class RefusedError(Exception):
    """A body that is too large or too slow; raised where the application reads it.

    Attributes:
        status: of the answer.
    """

    def __init__(self, status: int, words: str) -> None:
        super().__init__(words)
        self.status = status


def refusal(status: int, words: str) -> Response:
    """An answer that closes the connection: the rest of the body is not read."""
    values = {"error": words, "code": "refused"}
    return JSONResponse(values, status, headers={"connection": "close"})


class _Exchange:
    """The messages of one request and its answer."""

    def __init__(
        self, receive: Receive, send: Send, headers: list[tuple[bytes, bytes]], limits: Limits
    ) -> None:
        self._receive, self._send = receive, send
        self._headers, self._limits = headers, limits
        self._bytes, self._whole = 0, False
        self._end = asyncio.get_running_loop().time() + limits.body_seconds

    def announced(self, scope: Scope) -> tuple[int, str] | None:
        """Refuses a body whose stated length is too large, before any of it is read."""
        for name, value in scope["headers"]:
            if name.lower() == b"content-length" and int(value) > self._limits.upload:
                return 413, self._too_large()
        return None

    def _too_large(self) -> str:
        return f"the file is too large: expected at most {self._limits.upload:,} bytes"

    async def receive(self) -> Message:
        """The next part of the body."""
        if self._whole:
            return await self._receive()
        left = self._end - asyncio.get_running_loop().time()
        try:
            message = await asyncio.wait_for(self._receive(), max(0.0, left))
        except asyncio.TimeoutError:
            words = f"the request did not arrive within {self._limits.body_seconds:g} s"
            raise RefusedError(408, words) from None
        self._bytes += len(message.get("body", b""))
        if self._bytes > self._limits.upload:
            raise RefusedError(413, self._too_large())
        self._whole = message["type"] != "http.request" or not message.get("more_body", False)
        return message

    async def send(self, message: Message) -> None:
        """Adds the headers."""
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), *self._headers]}
        await self._send(message)


def bounded_protocol(limits: Limits) -> type[H11Protocol]:
    """Connections that are closed unless their first request arrives in time."""

    class Bounded(H11Protocol):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self.loop.call_later(limits.head_seconds, self._expect_request)

        def _expect_request(self) -> None:
            if self.cycle is None and not self.transport.is_closing():
                self.transport.close()

    return Bounded
