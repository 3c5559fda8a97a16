"""pydensecrf's interface over this package's CRF: change the import, keep the script.

``from caffe_port.crf.pydensecrf import densecrf as dcrf`` and ``... import utils``.
"""

_strict = [False]


def set_strict(strict: bool = True) -> None:
    """Makes inputs that pydensecrf2 accepts by accident an error, in the whole process.

    These are energies of +inf, probabilities that are negative or integers, labels that are
    booleans, sizes and iterations that are not whole numbers.
    """
    _strict[0] = strict


def is_strict() -> bool:
    """See ``set_strict``."""
    return _strict[0]
