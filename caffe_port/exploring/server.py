"""The server of the page: its files, and the requests that its scripts send."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from importlib import resources
from typing import Any
from urllib.parse import unquote

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

import caffe_port
from caffe_port.crf import PRESETS
from caffe_port.errors import CaffePortError, UsageError, described, escaped
from caffe_port.exploring import blobs, fixations, labels
from caffe_port.exploring.jobs import Answer, BusyError, DroppedError, Worker
from caffe_port.exploring.security import Guard, RefusedError, refusal
from caffe_port.exploring.sessions import Limits, NoSessionError, Sessions, Subject

_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript",
          ".svg": "image/svg+xml"}  # fmt: skip
_MOST_JSON = 65536  # bytes
_LONGEST_NAME = 255
_PATIENCE = 0.5  # seconds between two looks whether the page still waits
_SHOWN = 500  # samples that the page lists
Handler = Callable[[Request], Awaitable[Response]]


def page_files() -> dict[str, tuple[str, bytes]]:
    """The page's files: name -> type and content."""
    found = {}
    for file in resources.files("caffe_port.exploring").joinpath("page").iterdir():
        suffix = file.name[file.name.rfind(".") :]
        if suffix in _TYPES:
            found[file.name] = f"{_TYPES[suffix]}; charset=utf-8", file.read_bytes()
    return found


class Server:
    """Answers the page's requests about one subject.

    Args:
        subject: what the page looks into.
        limits: of its sessions.
    """

    def __init__(self, subject: Subject, limits: Limits | None = None) -> None:
        self.subject, self.limits = subject, limits or Limits()
        self.sessions, self.worker = Sessions(self.limits), Worker()
        self._files = page_files()

    def guarded(self, token: str, names: tuple[str, ...] = (), *, framed: bool = False) -> Guard:
        """The application behind its guard; see ``Guard``."""
        return Guard(self._application(), token, names, self.limits, framed=framed)

    def close(self) -> None:
        """Ends the computations."""
        self.worker.close()

    def _application(self) -> Starlette:
        posts = {
            "/api/sessions": self._open,
            "/api/sessions/{session}/close": self._close,
            "/api/sessions/{session}/image": self._image,
            "/api/sessions/{session}/truth": self._truth,
            "/api/sessions/{session}/{what}": self._about_image,
            "/api/model/{what}": self._about_model,
        }
        gets = {
            "/": self._page,
            "/page/{name}": self._page,
            "/api/subject": self._subject,
            "/api/samples/{number:int}": self._thumbnail,
            "/api/maps/{number:int}": self._label_map,
        }
        routes = [
            *(Route(path, _answering(found), methods=["POST"]) for path, found in posts.items()),
            *(Route(path, _answering(found), methods=["GET"]) for path, found in gets.items()),
        ]
        return Starlette(routes=routes, exception_handlers={Exception: _unexpected})

    # files

    async def _page(self, request: Request) -> Response:
        name = request.path_params.get("name", "index.html")
        if name not in self._files:
            return _failed(404, "the page has no such file", "missing")
        kind, content = self._files[name]
        return Response(content, media_type=kind)

    async def _thumbnail(self, request: Request) -> Response:
        number = request.path_params["number"]
        if not 0 <= number < len(self.subject.samples):
            raise UsageError(f"image {number}; there are {len(self.subject.samples)}")
        content = await run_in_threadpool(labels.thumbnail, self.subject.samples[number])
        return Response(content, media_type="image/jpeg")

    async def _label_map(self, request: Request) -> Response:
        if self.subject.run is None:
            raise UsageError("no run is watched: start with --run FOLDER")
        content = await run_in_threadpool(self.subject.run.label_map, request.path_params["number"])
        return Response(content, media_type="image/png")

    async def _subject(self, request: Request) -> Response:
        subject, segmenter = self.subject, self.subject.segmenter
        chosen = None if segmenter.crf is None else segmenter.crf.describe()
        return JSONResponse({
            "version": caffe_port.__version__,
            "title": escaped(subject.title),
            "classes": [escaped(name) for name in segmenter.names],
            "colours": segmenter.colours.tolist(),
            "presets": {name: found.as_dict() for name, found in PRESETS.items()},
            "crf": chosen,
            "samples": [escaped(sample.name) for sample in subject.samples[:_SHOWN]],
            "all_samples": len(subject.samples),
            "recording": subject.verification is not None,
            "run": subject.run is not None,
            "upload": self.limits.upload,
            "pixels": self.limits.pixels_for(subject.classes),
        })  # fmt: skip

    # sessions

    async def _open(self, request: Request) -> Response:
        return JSONResponse({"session": self.sessions.open()})

    async def _close(self, request: Request) -> Response:
        self.sessions.close(request.path_params["session"])
        return JSONResponse({})

    async def _image(self, request: Request) -> Response:
        """A new image: the body of the request, or a sample that its query names."""
        name, subject, limits = request.path_params["session"], self.subject, self.limits
        session = self.sessions.find(name)
        sample = request.query_params.get("sample")
        title, content = _name(request), await request.body()

        def compute() -> Answer:
            if sample is None:
                photo = labels.make_photo(subject, content, title, limits)
            else:
                number = int(sample) if sample.isascii() and sample.isdigit() else -1
                photo = labels.sample_photo(subject, number, limits)
            session.show(photo)
            return labels.photo_answer(subject, session)

        return await self._computed(request, (name, "image"), compute)

    async def _truth(self, request: Request) -> Response:
        """The label map of the image, or with an empty body none."""
        name, subject = request.path_params["session"], self.subject
        session, content = self.sessions.find(name), await request.body()
        title = _name(request)

        def compute() -> Answer:
            photo = session.expect_photo()
            photo.truth = labels.read_truth(subject, photo, content, title) if content else None
            return labels.photo_answer(subject, session)

        return await self._computed(request, (name, "truth"), compute)

    async def _about_image(self, request: Request) -> Response:
        name, what = request.path_params["session"], request.path_params["what"]
        session, subject, asked = self.sessions.find(name), self.subject, await _json(request)
        run = subject.run
        functions: dict[str, Callable[[], Answer]] = {
            "crf": lambda: labels.crf_answer(subject, session, asked),
            "values": lambda: labels.values_answer(subject, session, asked),
            "trace": lambda: fixations.trace_answer(subject, session, asked),
            "blobs": lambda: blobs.blobs_answer(subject, session),
            "channels": lambda: blobs.channels_answer(subject, session, asked),
            "channel": lambda: blobs.channel_answer(subject, session, asked),
        }
        if run is not None:
            number = asked.get("run")
            functions["snapshot"] = lambda: run.snapshot_answer(
                subject, session, number if isinstance(number, int) else -1
            )
        if what not in functions:
            return _failed(404, "there is no such request", "missing")
        return await self._computed(request, (name, what), functions[what])

    async def _about_model(self, request: Request) -> Response:
        what, subject, asked = request.path_params["what"], self.subject, await _json(request)
        functions: dict[str, Callable[[], Answer]] = {
            "weights": lambda: blobs.weights_answer(subject),
            "parity": lambda: blobs.parity_answer(subject),
            "difference": lambda: blobs.difference_answer(subject, asked),
        }
        if what == "run" and subject.run is not None:
            answer = await run_in_threadpool(subject.run.answer, asked)
            return _packed(answer)
        if what not in functions:
            return _failed(404, "there is no such request", "missing")
        return await self._computed(request, (object(), what), functions[what])

    async def _computed(
        self, request: Request, key: tuple[object, str], function: Callable[[], Answer]
    ) -> Response:
        """Runs a job; cancels it when the page no longer waits."""
        job = self.worker.submit(key, function)
        future = asyncio.wrap_future(job.future)
        try:
            while not (await asyncio.wait({future}, timeout=_PATIENCE))[0]:
                if await request.is_disconnected():
                    job.cancel()
            answer = future.result()
        finally:
            job.cancel()
            self.sessions.trim()
        return _packed(answer)


def _packed(answer: Answer) -> Response:
    return Response(answer.packed(), media_type="application/octet-stream")


_FAILURES: dict[type[Exception], tuple[int, str, str]] = {
    NoSessionError: (410, "session", ""),
    DroppedError: (409, "dropped", "a newer request replaced this one"),
    ClientDisconnect: (409, "dropped", "the page no longer waits"),
    BusyError: (503, "busy", ""),
    CaffePortError: (400, "wrong", ""),
    MemoryError: (507, "memory", "there is not enough memory for this image"),
}  # the first that fits: status, code for the page, and words in place of the error's own


def _answering(handler: Handler) -> Handler:
    """A handler whose errors become answers that the page shows as text."""

    async def answer(request: Request) -> Response:
        try:
            return await handler(request)
        except RefusedError as error:
            return refusal(error.status, str(error))
        except OSError as error:
            return _failed(400, escaped(described(error)), "wrong")
        except tuple(_FAILURES) as error:
            found = next(_FAILURES[kind] for kind in _FAILURES if isinstance(error, kind))
            return _failed(found[0], found[2] or str(error), found[1])

    return answer


async def _unexpected(request: Request, error: Exception) -> Response:
    """A fault of the server itself, which also prints its traceback."""
    return _failed(500, f"the server has a fault: {escaped(repr(error))[:500]}", "fault")


def _failed(status: int, words: str, code: str) -> JSONResponse:
    return JSONResponse({"error": words, "code": code}, status)


def _name(request: Request) -> str:
    """What the page calls an uploaded file; it is shown, and never opened."""
    given = unquote(request.query_params.get("name", "image"), errors="replace")
    return escaped(given)[:_LONGEST_NAME] or "image"


async def _json(request: Request) -> Mapping[str, Any]:
    """The body as a JSON object.

    Raises:
        UsageError: it is none.
    """
    content = await request.body()
    try:
        if len(content) > _MOST_JSON:
            raise ValueError(f"{len(content)} bytes")
        found = json.loads(content or b"{}")
    except (ValueError, RecursionError) as error:
        raise UsageError(f"the request is not a small JSON object: {error}") from None
    if not isinstance(found, dict):
        raise UsageError("the request is not a JSON object")
    return found
