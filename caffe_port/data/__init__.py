"""Lists, images, label maps and databases, and the arrays that Caffe's data layers make of them."""

from typing import TYPE_CHECKING, Any

from caffe_port import import_name

if TYPE_CHECKING:
    from caffe_port.data.database import open_database, write_database
    from caffe_port.data.rng import CaffeRandom, seeded
    from caffe_port.data.voc import voc_items

_MODULES = {
    "CaffeRandom": "rng",
    "open_database": "database",
    "seeded": "rng",
    "voc_items": "voc",
    "write_database": "database",
}
__all__ = ["CaffeRandom", "open_database", "seeded", "voc_items", "write_database"]


def __getattr__(name: str) -> Any:
    return import_name(__name__, _MODULES, name)
