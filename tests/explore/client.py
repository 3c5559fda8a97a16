"""A page that is served for the tests, and requests to it as its scripts send them."""

from __future__ import annotations

import http.client
import json
import struct
from functools import cache
from typing import Any
from urllib.parse import urlsplit

import numpy as np

import caffe_port as cp
from tests.goldens_dir import ROOT

EXAMPLE = ROOT / "examples" / "shapes_voc"
RUN = EXAMPLE / "caffe_run"
MODEL = RUN / "recording" / "net.prototxt"
WEIGHTS = RUN / "model" / "train_iter_2400.caffemodel"
IMAGES, TRUTH = EXAMPLE / "JPEGImages", EXAMPLE / "SegmentationClass"
IMAGE = IMAGES / "shape_val_0001.jpg"
MASK = TRUTH / "shape_val_0001.png"
NAMES = EXAMPLE / "class_names.txt"

Arrays = dict[str, np.ndarray]


@cache
def net() -> cp.Net:
    """The example's net."""
    return cp.load(MODEL, WEIGHTS)


def segmenter(**options: Any) -> cp.Segmenter:
    """The example's segmenter."""
    return cp.Segmenter(net(), names=NAMES, **options)


class RefusedError(Exception):
    """An answer that is an error.

    Attributes:
        status, code: its status and the code for the page.
    """

    def __init__(self, status: int, content: bytes) -> None:
        found = json.loads(content)
        super().__init__(found["error"])
        self.status, self.code = status, found["code"]


def unpacked(content: bytes) -> tuple[dict[str, Any], Arrays]:
    """What ``Answer.packed`` packed."""
    (length,) = struct.unpack("<I", content[:4])
    found = json.loads(content[4 : 4 + length])
    arrays = {
        one["name"]: np.frombuffer(
            content, one["dtype"], int(np.prod(one["shape"])), 4 + length + one["at"]
        ).reshape(one["shape"])
        for one in found["arrays"]
    }
    return found["head"], arrays


class Client:
    """Sends requests to a page's server.

    Args:
        url: with the token.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.host, self.path = parts.netloc, parts.path
        self._connection = http.client.HTTPConnection(self.host)

    def request(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[int, http.client.HTTPMessage, bytes]:
        """Status, headers and content of an answer; the path is below the token."""
        self._connection.request(method, self.path + path, body, headers or {})
        answer = self._connection.getresponse()
        return answer.status, answer.headers, answer.read()

    def get(self, path: str) -> bytes:
        """The content of a page or a file."""
        status, _, content = self.request("GET", path)
        if status != 200:
            raise RefusedError(status, content)
        return content

    def post(self, path: str, values: Any = None) -> tuple[dict[str, Any], Arrays]:
        """An answer to bytes or to JSON values; raises RefusedError."""
        body = values if isinstance(values, bytes) else json.dumps(values or {}).encode()
        status, headers, content = self.request("POST", path, body)
        if status != 200:
            raise RefusedError(status, content)
        if headers.get_content_type() == "application/json":
            return json.loads(content), {}
        return unpacked(content)

    def open(self) -> Tab:
        """Opens a session."""
        return Tab(self, self.post("api/sessions")[0]["session"])

    def close(self) -> None:
        """Closes the connection."""
        self._connection.close()


class Tab:
    """One open page.

    Args:
        client: of its server.
        session: its name.
    """

    def __init__(self, client: Client, session: str) -> None:
        self.client, self.session = client, session

    def post(self, what: str, values: Any = None) -> tuple[dict[str, Any], Arrays]:
        """A request about the tab's image."""
        return self.client.post(f"api/sessions/{self.session}/{what}", values)

    def show(self, image: bytes = IMAGE.read_bytes()) -> tuple[dict[str, Any], Arrays]:
        """Uploads an image."""
        return self.post("image?name=photo.jpg", image)
