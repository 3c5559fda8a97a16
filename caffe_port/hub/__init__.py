"""Model folders, written and read, and their way to and from the Hugging Face hub."""

from typing import TYPE_CHECKING, Any

from caffe_port import import_name

if TYPE_CHECKING:
    from caffe_port.hub.repositories import from_pretrained
    from caffe_port.hub.saving import push_to_hub, save_pretrained

_MODULES = {
    "from_pretrained": "repositories",
    "push_to_hub": "saving",
    "save_pretrained": "saving",
}
__all__ = ["from_pretrained", "push_to_hub", "save_pretrained"]


def __getattr__(name: str) -> Any:
    return import_name(__name__, _MODULES, name)
