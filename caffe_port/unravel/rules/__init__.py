"""How points of a layer's top become points of its bottoms: one file per family of types."""

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
