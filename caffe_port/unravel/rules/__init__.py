"""Tracing rules, from points of a layer's top to points of its bottoms; a file per family."""

from caffe_port.unravel.rules._registry import (
    BUILTIN,
    Link,
    Passage,
    Shift,
    expect_rules,
    find_rule,
    register_rule,
)

__all__ = ["BUILTIN", "Link", "Passage", "Shift", "expect_rules", "find_rule", "register_rule"]
