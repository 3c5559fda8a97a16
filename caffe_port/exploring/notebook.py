"""Starts the page: for the command, or beside a notebook."""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
import webbrowser
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from caffe_port.errors import UsageError
from caffe_port.reports import html

if TYPE_CHECKING:
    import uvicorn

    from caffe_port.data.images import PathLike
    from caffe_port.exploring.server import Server
    from caffe_port.exploring.sessions import Limits, Subject
    from caffe_port.net import Net
    from caffe_port.prediction.segmenter import Segmenter

LOOPBACK = "127.0.0.1"
_START = 30  # seconds


def explore(
    model: Segmenter | Net | PathLike,
    weights: PathLike | None = None,
    *,
    images: PathLike | None = None,
    truth: PathLike | None = None,
    recording: PathLike | None = None,
    run: PathLike | None = None,
    port: int = 0,
    height: int = 860,
    limits: Limits | None = None,
    **options: Any,
) -> Explorer:
    """Starts the page that looks inside a model; a notebook shows it in a frame.

    Labels, confidence and scores of an image, the dense CRF with sliders, the points that caused
    a label, every blob, the comparison with a recording, and a training: see docs/explore.md.

    Args:
        model: a ``Segmenter``, a ``Net``, a prototxt, a converted model or a model folder.
        weights: of a prototxt.
        images: a folder of images that the page offers.
        truth: a folder of their label maps.
        recording: of real Caffe, of the same net.
        run: a folder of ``caffe train`` or ``caffe-port finetune`` to watch.
        port: on 127.0.0.1; a free one when 0.
        height: of the frame in a notebook, in pixels.
        limits: bounds of what the page may ask for.
        options: of ``Segmenter``, where the model is none.
    Returns:
        The running page; ``close`` ends it.
    Raises:
        UsageError: the extra 'explore' is not installed, or an option is wrong.
        CaffePortError: the model cannot be loaded.
    Examples:
        >>> import caffe_port as cp
        >>> run = "examples/shapes_voc/caffe_run"
        >>> net = cp.load(
        ...     f"{run}/recording/net.prototxt", f"{run}/model/train_iter_2400.caffemodel"
        ... )
        >>> page = cp.explore(net, images="examples/shapes_voc/JPEGImages")
        >>> page.url
        'http://127.0.0.1:.../'
        >>> page.close()
    """
    expect_installed()
    from caffe_port.exploring.server import Server

    subject = _subject(model, weights, options)
    fill_subject(subject, images=images, truth=truth, recording=recording, run=run)
    return Explorer(Server(subject, limits), port=port, height=height)


def expect_installed() -> None:
    """Raises UsageError unless the packages of the extra 'explore' can be imported."""
    try:
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise UsageError(
            f"the page needs the packages of the extra 'explore' ({error}): "
            "pip install 'caffe-port[explore]'"
        ) from None


def _subject(
    model: Segmenter | Net | PathLike, weights: PathLike | None, options: dict[str, Any]
) -> Subject:
    from caffe_port.evaluation.scheduler import cores
    from caffe_port.exploring.sessions import Subject
    from caffe_port.prediction.segmenter import Segmenter

    if isinstance(model, Segmenter):
        if weights is not None or options:
            raise UsageError("a Segmenter is given: weights and options are for models")
        segmenter, title = model, model.scores.net.spec.name
    else:
        segmenter = Segmenter(model, weights, **options)
        is_file = isinstance(model, str | os.PathLike)
        title = Path(model).name if is_file else segmenter.scores.net.spec.name  # type: ignore[arg-type]
    return Subject(segmenter, title, threads=cores())


def fill_subject(
    subject: Subject, *, images: PathLike | None, truth: PathLike | None,
    recording: PathLike | None, run: PathLike | None,
) -> None:  # fmt: skip
    """Adds what a page shows besides the model; see ``explore``.

    Raises:
        CaffePortError: a folder holds no images, or the recording cannot be read.
    """
    from caffe_port.exploring.blobs import Verification
    from caffe_port.exploring.labels import find_samples
    from caffe_port.exploring.training import RunFolder
    from caffe_port.parity.recording import read_recording

    if truth is not None and images is None:
        raise UsageError("label maps are given without a folder of images")
    if images is not None:
        subject.samples = find_samples(Path(images), None if truth is None else Path(truth))
    if recording is not None and subject.verification is None:
        net = subject.segmenter.scores.net
        subject.verification = Verification(net, read_recording(Path(recording)))
    if run is not None:
        if not Path(run).is_dir():
            raise UsageError(f"{os.fspath(run)}: not a folder")
        subject.run = RunFolder(Path(run))


def make_server(
    server: Server, token: str, host: str, port: int, *, framed: bool = False
) -> tuple[uvicorn.Server, socket.socket, str]:
    """A server that listens, but does not answer before it is run, and its address.

    Args:
        server: the application.
        token: the first part of every path.
        host, port: where it listens; a free port when 0.
        framed: whether a notebook may show it in a frame.
    Raises:
        UsageError: the address cannot be used.
    """
    import uvicorn

    from caffe_port.exploring.security import bounded_protocol, is_loopback

    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server((host, port), family=family)
    except (OSError, OverflowError) as error:
        raise UsageError(
            f"{host}, port {port}: cannot listen there ({error}); choose another with --port"
        ) from None
    names = () if is_loopback(host) else (host, socket.gethostname(), socket.getfqdn())
    app = server.guarded(token, names, framed=framed)
    configuration = uvicorn.Config(
        app, http=bounded_protocol(server.limits), ws="none", loop="asyncio", lifespan="off",
        log_config=None, access_log=False, server_header=False, proxy_headers=False,
        limit_concurrency=100, timeout_graceful_shutdown=3,
    )  # fmt: skip
    shown = socket.gethostname() if host in ("0.0.0.0", "::") else host
    shown = f"[{shown}]" if ":" in shown else shown
    url = f"http://{shown}:{listening.getsockname()[1]}/{quote(token)}/"
    return uvicorn.Server(configuration), listening, url


def serve(server: Server, token: str, host: str, port: int, started: Callable[[str], None]) -> None:
    """Answers until Ctrl-C or a SIGTERM.

    Args:
        server, token, host, port: see ``make_server``.
        started: called with the address before the first answer.
    """
    running, listening, url = make_server(server, token, host, port)
    try:
        started(url)
        running.run(sockets=[listening])
    except KeyboardInterrupt:
        pass  # the usual end
    finally:
        listening.close()
        server.close()


def open_browser(url: str) -> bool:
    """Opens the page in the user's browser, where there is a screen; says whether it did."""
    has_screen = sys.platform in ("darwin", "win32") or any(
        os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY")
    )
    return has_screen and webbrowser.open(url)


class Explorer:
    """A page that is served from a thread of this process; a notebook shows it in a frame.

    Args:
        server: the application.
        port: on 127.0.0.1; a free one when 0.
        height: of the frame in pixels.
        token: the first part of the path; a random one when absent.
    Attributes:
        url: the address, with its token.
    Examples:
        >>> import caffe_port as cp
        >>> run = "examples/shapes_voc/caffe_run"
        >>> with cp.explore(
        ...     f"{run}/recording/net.prototxt", f"{run}/model/train_iter_2400.caffemodel"
        ... ) as page:
        ...     page.url.startswith("http://127.0.0.1:")
        True
    """

    def __init__(
        self, server: Server, *, port: int = 0, height: int = 860, token: str | None = None
    ) -> None:
        from caffe_port.exploring.security import make_token

        self.server, self._height = server, height
        self._running, self._listening, self.url = make_server(
            server, make_token(token), LOOPBACK, port, framed=True
        )
        self._thread = threading.Thread(
            target=self._running.run, kwargs={"sockets": [self._listening]}, daemon=True
        )
        self._thread.start()
        end = time.monotonic() + _START
        while not self._running.started and self._thread.is_alive() and time.monotonic() < end:
            time.sleep(0.01)

    def close(self) -> None:
        """Ends the page; calling it again does nothing."""
        self._running.should_exit = True
        self._thread.join()
        self._listening.close()
        self.server.close()

    def __enter__(self) -> Explorer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Explorer at {self.url}>"

    def _repr_html_(self) -> str:
        return (
            f'<iframe src="{html.text(self.url)}" title="caffe_port explore" '
            f'style="width:100%;height:{self._height}px;border:0;border-radius:10px"></iframe>'
        )
