"""Models from folders and from repositories of the Hugging Face hub.

Folders need no further package; huggingface_hub is imported when a repository is named.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from caffe_port.errors import CaffePortError, ReadError, UsageError
from caffe_port.model_folder import CARD, FILES
from caffe_port.stalls import Waiting

if TYPE_CHECKING:
    from caffe_port.net import Net

    PathLike = str | os.PathLike[str]

REPOSITORY = re.compile(r"\w[\w.-]*/\w[\w.-]*", re.ASCII)  # OWNER/NAME
_TRANSFER = {"huggingface_hub", "httpx", "httpx2", "httpcore", "httpcore2", "requests", "urllib3"}


def from_pretrained(
    path_or_repo_id: PathLike,
    *,
    revision: str | None = None,
    cache_dir: PathLike | None = None,
    token: str | bool | None = None,
    force_download: bool = False,
    local_files_only: bool = False,
    **load_options: Any,
) -> Net:
    """Loads the net of a model folder, or of a repository of the Hugging Face hub.

    A folder needs no network. Nothing in it is run: the weights are safetensors, the net is a
    prototxt, and layers of type Python are refused unless ``allow_python_layers`` is given.

    Args:
        path_or_repo_id: a folder that ``Net.save_pretrained`` wrote, or OWNER/NAME.
        revision: a repository's branch, tag or commit.
        cache_dir, token, force_download, local_files_only: as huggingface_hub takes them.
        load_options: what else ``caffe_port.load`` takes, such as ``phase`` or ``input_shapes``.
    Returns:
        The net, on the CPU; its ``info`` is what the folder says of the model.
    Raises:
        UsageError: neither a folder nor OWNER/NAME; huggingface_hub is missing, for a repository.
        ReadError: a file is missing, or the repository cannot be read.
        FormatError: a file breaks its format.
        CaffePortError: the net cannot be built, or the weights do not fit.
    Examples:
        >>> import caffe_port as cp
        >>> run = "examples/shapes_voc/caffe_run"
        >>> net = cp.load(
        ...     f"{run}/recording/net.prototxt", f"{run}/model/train_iter_2400.caffemodel"
        ... )
        >>> net.save_pretrained("shapes", classes="examples/shapes_voc/class_names.txt")
        >>> cp.from_pretrained("shapes").info.classes[:2]
        ('background', 'disc')
    """
    from caffe_port.loading import load

    name = os.fspath(path_or_repo_id)
    with Waiting(name):
        is_folder, exists = os.path.isdir(name), os.path.exists(name)
    if is_folder and revision is not None:
        raise UsageError(f"{name} is a folder: leave out revision, which is for repositories")
    if exists and not is_folder:
        raise UsageError(f"{name} is a file; expected a folder. caffe_port.load reads model files")
    if is_folder:
        return load(name, **load_options)
    if not REPOSITORY.fullmatch(name):
        raise UsageError(f"{name}: no such folder, and not a repository of the form OWNER/NAME")
    folder = _download(
        name, revision=revision, cache_dir=cache_dir, token=token, force_download=force_download,
        local_files_only=local_files_only,
    )  # fmt: skip
    return load(folder, **load_options)


def library() -> Any:
    """The package huggingface_hub. Raises UsageError where it is not installed."""
    try:
        import huggingface_hub
    except ImportError as error:
        raise UsageError(
            "repositories need the package huggingface_hub: pip install 'caffe-port[hub]'; "
            "a folder on disk does not"
        ) from error
    return huggingface_hub


def _download(repo_id: str, **options: Any) -> str:
    """The folder of the cache that holds the repository's model."""
    hub = library()
    with hub_errors(repo_id):
        return str(hub.snapshot_download(repo_id, allow_patterns=[*FILES, CARD], **options))


@contextlib.contextmanager
def hub_errors(repo_id: str) -> Iterator[None]:
    """Turns errors of huggingface_hub and of the transfer into ones that name the repository."""
    try:
        yield
    except CaffePortError:
        raise
    except Exception as error:
        # which package does the transfer differs between versions of huggingface_hub
        package = type(error).__module__.partition(".")[0]
        if isinstance(error, OSError) or package in _TRANSFER:
            raise ReadError(f"the repository cannot be used: {error}", path=repo_id) from error
        raise
