"""Attacks on the server of `caffe-port explore`: only its own page gets answers, within bounds."""

from __future__ import annotations

import http.client
import io
import json
import socket
import struct
import zlib
from urllib.parse import quote, urlsplit

import pytest
from PIL import Image

import caffe_port as cp
from caffe_port.errors import UsageError
from caffe_port.exploring.security import Guard, is_loopback, make_token
from caffe_port.exploring.server import Server
from caffe_port.exploring.sessions import Limits, Session, Sessions, Subject
from tests.explore.client import IMAGES, RUN, Client, RefusedError, segmenter
from tests.waiting import LIMIT

FAST = Limits(upload=300_000, body_seconds=0.5, head_seconds=0.5)


@pytest.fixture(scope="module")
def page():
    with cp.explore(segmenter(), images=IMAGES, run=RUN, limits=FAST) as found:
        yield found


@pytest.fixture
def client(page):
    one = Client(page.url)
    yield one
    one.close()


def answer(page, path=None, method="GET", headers=(), body=None):
    """Status and headers of a request with exactly these headers."""
    parts = urlsplit(page.url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=LIMIT)
    connection.putrequest(method, parts.path if path is None else path, skip_host=True)
    given = dict(headers)
    for name, value in {"Host": parts.netloc, **given}.items():
        if value is not None:
            connection.putheader(name, value)
    if body is not None:
        connection.putheader("Content-Length", str(len(body)))
    connection.endheaders(body)
    found = connection.getresponse()
    content = found.read()
    connection.close()
    return found.status, found.headers, content


def other_token(token):
    return token[:-1] + ("A" if token[-1] != "A" else "B")


def test_its_own_page_is_answered_with_strict_headers(page):
    status, headers, content = answer(page)
    assert (status, b"explore" in content) == (200, True)
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy
    assert "unsafe" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert headers["cache-control"] == "no-store"
    assert "access-control-allow-origin" not in headers
    assert "server" not in headers


@pytest.mark.parametrize(
    "path",
    ["/", "", "/api/subject", "/page/app.js", "/{other}/", "/{other}/api/subject", "/{token}",
     "//{token}/", "/{token}x/", "/%00{token}/", "/{upper}/", "/ä/"],
)  # fmt: skip
def test_without_its_token_nothing_is_answered(page, path):
    token = urlsplit(page.url).path.strip("/")
    filled = path.format(token=token, other=other_token(token), upper=token.swapcase())
    status, headers, content = answer(page, quote(filled, safe="/%") or "/")
    assert status == 403
    assert b"token" in content
    assert "content-security-policy" in headers


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "localhost.evil.example",
     "10.0.0.1", "[::2]", "0x7f000001", "2130706433", "", "127.0.0.1@evil.example", "[", None],
)  # fmt: skip
def test_another_host_is_refused(page, host):
    # a name that an attacker's DNS points to this machine: rebinding
    status, _, content = answer(page, headers={"Host": host})
    assert status in (400, 421)
    assert b"<html" not in content


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]", "localhost:9000", "LOCALHOST"])
def test_the_names_of_this_machine_are_accepted(page, host):
    # also with another port: that of a tunnel
    assert answer(page, headers={"Host": host})[0] == 200


@pytest.mark.parametrize(
    "origin",
    ["http://evil.example", "null", "https://{host}", "http://localhost:1", "http://{host}.evil",
     "http://{host}/", "file://"],
)  # fmt: skip
def test_another_origin_is_refused(page, origin):
    parts = urlsplit(page.url)
    headers = {"Origin": origin.format(host=parts.netloc)}
    status, found, _ = answer(page, parts.path + "api/sessions", "POST", headers, b"{}")
    assert status == 403
    assert "access-control-allow-origin" not in found
    headers["Access-Control-Request-Method"] = "POST"
    assert answer(page, parts.path + "api/sessions", "OPTIONS", headers)[0] == 403


def test_its_own_origin_is_accepted(page):
    parts = urlsplit(page.url)
    headers = {"Origin": f"http://{parts.netloc}"}
    assert answer(page, parts.path + "api/sessions", "POST", headers, b"{}")[0] == 200


def test_resources_are_refused_to_other_sites(page):
    headers = {"Sec-Fetch-Site": "cross-site"}
    for path in ("api/subject", "page/app.js", "api/samples/0"):
        assert answer(page, urlsplit(page.url).path + path, headers=headers)[0] == 403


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "TRACE", "CONNECT", "OPTIONS", "ODD"])
def test_other_methods_are_refused(page, method):
    path = "/x" if method == "CONNECT" else None
    assert answer(page, path, method)[0] in (400, 403, 405)


@pytest.mark.parametrize(
    "path",
    ["../server.py", "..%2fserver.py", "%2e%2e/server.py", "....//server.py", "..\\server.py",
     "/etc/passwd", "%2fetc%2fpasswd", "app.js/../../server.py", "app.js%00.html", "",
     "../../__init__.py", "..%252fserver.py"],
)  # fmt: skip
@pytest.mark.parametrize("folder", ["page", "api/samples", "api/maps", "."])
def test_no_path_leads_out_of_the_page(page, folder, path):
    status, _, content = answer(page, f"{urlsplit(page.url).path}{folder}/{path}")
    assert status in (403, 404)
    assert b"root:" not in content
    assert b"import" not in content


@pytest.mark.parametrize(
    "sample", ["../shape.jpg", "/etc/passwd", "-1", "1e3", "0x1", "٣", "99999"]
)
def test_images_of_the_folder_have_numbers_only(client, sample):
    tab = client.open()
    with pytest.raises(RefusedError, match=r"image -?[0-9]+; there are") as refused:
        tab.post(f"image?sample={quote(sample)}", b"")
    assert refused.value.status == 400


def test_no_value_of_a_request_is_a_path(client):
    tab = client.open()
    tab.show((IMAGES / "shape_val_0001.jpg").read_bytes())
    for what in ("channels", "channel", "snapshot"):
        asked = {"blob": "/etc/passwd", "run": "/etc", "kind": "../x", "channel": 0}
        with pytest.raises(RefusedError) as refused:
            tab.post(what, asked)
        assert refused.value.status == 400
    found, _ = client.post("api/model/run", {"run": "../../.."})
    assert found["run"] is None


def chunk(kind: bytes, content: bytes) -> bytes:
    return (struct.pack(">I", len(content)) + kind + content
            + struct.pack(">I", zlib.crc32(kind + content)))  # fmt: skip


def bomb_png(width, height):
    """A small PNG that is huge inside."""
    packer, head = zlib.compressobj(9), struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = b"".join(packer.compress(bytes(2**20)) for _ in range(min(64, width * height >> 20)))
    content = chunk(b"IHDR", head) + chunk(b"IDAT", rows + packer.flush()) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + content


def bomb_text():
    """A PNG whose compressed note is large inside."""
    note = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(200 * 2**20), 9))
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0))
    row = chunk(b"IDAT", zlib.compress(b"\0\0"))
    return b"\x89PNG\r\n\x1a\n" + head + note + row + chunk(b"IEND", b"")


def bomb_tiff():
    stream = io.BytesIO()
    Image.new("1", (16_000, 16_000)).save(stream, "TIFF", compression="group4")
    return stream.getvalue()


BOMBS = {
    "a PNG of a gigapixel": lambda: bomb_png(40_000, 40_000),
    "a PNG of 2^31 pixels a side": lambda: bomb_png(2**31 - 1, 2**31 - 1),
    "a PNG with a large note": bomb_text,
    "a TIFF of 256 megapixels": bomb_tiff,
    "a GIF's head": lambda: b"GIF89a\xff\xff\xff\xff\x00\x00\x00,",
    "a PPM's head": lambda: b"P6 60000 60000 255\n",
    "a WebP's head": lambda: b"RIFF\x1a\0\0\0WEBPVP8L\x0d\0\0\0\x2f" + b"\xff" * 9,
    "a script": lambda: b"#!/bin/sh\ntouch canary\n",
    "PostScript": lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
    "an SVG": lambda: b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>',
    "nothing": lambda: b"",
}


@pytest.mark.parametrize("what", ["image", "truth"])
@pytest.mark.parametrize("bomb", BOMBS)
def test_bombs_are_refused_in_words(client, bomb, what):
    content = BOMBS[bomb]()
    assert len(content) < FAST.upload
    tab = client.open()
    if what == "truth":
        tab.show((IMAGES / "shape_val_0001.jpg").read_bytes())
        if not content:
            assert tab.post("truth", content)[0]["truth"] is False  # takes the truth away
            return
    with pytest.raises(RefusedError) as refused:
        tab.post(f"{what}?name=bomb", content)
    assert (refused.value.status, refused.value.code) == (400, "wrong")
    assert str(refused.value).startswith("bomb: ")
    assert len(client.get("")) > 1000  # the server still answers


def test_a_large_body_is_refused_before_it_is_read(page, client):
    tab = client.open()
    parts = urlsplit(page.url)
    with socket.create_connection((parts.hostname, parts.port), LIMIT) as raw:
        path = f"{parts.path}api/sessions/{tab.session}/image"
        raw.sendall(f"POST {path} HTTP/1.1\r\nHost: {parts.netloc}\r\n"
                    f"Content-Length: {10**15}\r\n\r\n".encode())  # fmt: skip
        assert raw.recv(65536).startswith(b"HTTP/1.1 413")


def test_a_large_chunked_body_is_refused(page, client):
    tab = client.open()
    parts = urlsplit(page.url)
    with socket.create_connection((parts.hostname, parts.port), LIMIT) as raw:
        path = f"{parts.path}api/sessions/{tab.session}/image"
        raw.sendall(f"POST {path} HTTP/1.1\r\nHost: {parts.netloc}\r\n"
                    "Transfer-Encoding: chunked\r\n\r\n".encode())  # fmt: skip
        received = b""
        try:
            for _ in range(4000):  # 400 MB, were it read
                raw.sendall(b"186a0\r\n" + bytes(100_000) + b"\r\n")
        except OSError:
            pass  # it hung up
        try:
            received = raw.recv(65536)
        except OSError:
            return
        assert received == b"" or received.startswith(b"HTTP/1.1 413")


def test_a_slow_body_is_refused(page, client):
    tab = client.open()
    parts = urlsplit(page.url)
    with socket.create_connection((parts.hostname, parts.port), LIMIT) as raw:
        path = f"{parts.path}api/sessions/{tab.session}/image"
        raw.sendall(f"POST {path} HTTP/1.1\r\nHost: {parts.netloc}\r\n"
                    "Content-Length: 1000\r\n\r\nslow".encode())  # fmt: skip
        assert raw.recv(65536).startswith(b"HTTP/1.1 408")
    assert len(client.get("")) > 1000


@pytest.mark.parametrize("head", [b"", b"GET / HTTP/1.1\r\nHost:"])
def test_a_slow_head_is_hung_up_on(page, head):
    parts = urlsplit(page.url)
    with socket.create_connection((parts.hostname, parts.port), LIMIT) as raw:
        raw.sendall(head)
        assert raw.recv(65536) == b""


@pytest.mark.parametrize(
    "request_",
    [b"GET /%s HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" % (b"a" * 200_000),
     b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: " + b"a" * 200_000 + b"\r\n\r\n",
     b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nHost: evil.example\r\n\r\n",
     b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
     b"nonsense\r\n\r\n",
     b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: -5\r\n\r\n",
     b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1e3\r\n\r\n"],
    ids=["long path", "long header", "two hosts", "TLS", "nonsense", "negative", "odd length"],
)  # fmt: skip
def test_malformed_requests(page, client, request_):
    parts = urlsplit(page.url)
    with socket.create_connection((parts.hostname, parts.port), LIMIT) as raw:
        raw.sendall(request_)
        try:
            status = raw.recv(65536)
        except ConnectionResetError:
            status = b""
    assert status == b"" or status.split()[1] in (b"400", b"403", b"421", b"431")
    assert len(client.get("")) > 1000


def test_a_websocket_is_refused(page):
    headers = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
               "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}  # fmt: skip
    status, _, _ = answer(page, urlsplit(page.url).path + "ws", headers=headers)
    assert status == 404


@pytest.mark.parametrize(
    "name", ["<b>x</b>", "\x1b[2J", "a\r\nSet-Cookie: x", "\u202egnp", "x" * 9999]
)
def test_names_of_files_are_text(client, name):
    tab = client.open()
    with pytest.raises(RefusedError) as refused:
        tab.post(f"image?name={quote(name)}", b"x")
    words = str(refused.value)
    assert not any(code in words for code in "\x1b\r\u202e")
    assert len(words) < 400
    status, headers, content = client.request(
        "POST", f"api/sessions/{tab.session}/image?name={quote(name)}", b"x"
    )
    assert headers["content-type"] == "application/json"
    assert "set-cookie" not in headers
    assert json.loads(content)["error"] == words
    assert status == 400


def test_sessions_are_bounded_and_cannot_be_guessed():
    clock = [0.0]
    sessions = Sessions(Limits(sessions=3, memory=100, idle=10), lambda: clock[0])
    names = [sessions.open() for _ in range(9)]
    assert len(sessions) == 3
    assert len(set(names)) == 9
    assert min(map(len, names)) >= 22
    clock[0] = 11.0
    sessions.find(names[-1])
    sessions.trim()
    assert len(sessions) == 1

    class Large(Session):
        memory = 60

    for name in ("a", "b", "c"):
        sessions._sessions[name] = Large(used=clock[0])
    sessions.trim()
    assert list(sessions._sessions) == ["c"]


@pytest.mark.parametrize("token", ["short", "a" * 21, "a" * 200, "a/" * 20, "ä" * 30, "a b" * 10])
def test_a_token_that_could_be_guessed_is_refused(token):
    with pytest.raises(UsageError, match="22 to 128"):
        make_token(token)


def test_tokens_are_random():
    assert len({make_token() for _ in range(100)}) == 100
    assert min(len(make_token()) for _ in range(100)) >= 32
    assert make_token("a" * 22) == "a" * 22


@pytest.mark.parametrize(
    ("host", "own"),
    [("127.0.0.1", True), ("localhost", True), ("::1", True), ("127.9.9.9", True),
     ("0.0.0.0", False), ("::", False), ("192.168.0.1", False), ("example.org", False)],
)  # fmt: skip
def test_addresses_of_this_machine(host, own):
    assert is_loopback(host) == own


def test_on_the_network_names_of_others_are_still_refused():
    server = Server(Subject(segmenter(), "x"))
    guard = server.guarded("a" * 32, ("0.0.0.0", "box"))
    assert isinstance(guard, Guard)
    assert all(map(guard._is_own, ("box:80", "BOX", "192.168.1.7:8000", "localhost")))
    assert not any(map(guard._is_own, ("evil.example", "box.evil.example", "", "[")))
    server.close()
