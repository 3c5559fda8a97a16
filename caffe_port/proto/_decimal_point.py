"""Makes the schema's module while a point separates decimals, whatever the locale says.

protobuf reads the defaults in the schema ('0.99') by the C library, which takes a German locale's
comma; the import would fail.
"""

from __future__ import annotations

import importlib
import locale

_before = locale.setlocale(locale.LC_NUMERIC)
locale.setlocale(locale.LC_NUMERIC, "C")
try:
    importlib.import_module("caffe_port.proto.caffe_pb2")
finally:
    locale.setlocale(locale.LC_NUMERIC, _before)
