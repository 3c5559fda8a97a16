"""How alike the pixels of classes are to the templates of classes, over a set of images.

For image n and classes c and d present in it: the mean over pixels p labelled d of
sim(t(n, c), F_p), with t the best template (docs/losses.md); then the mean over images. The
diagonal is what the pull term raises, the rest what the push term lowers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from torch import Tensor

Floats = npt.NDArray[np.float64]


class Similarities:
    """Sums over images; ``means`` gives (C, C), NaN where two classes never meet.

    Args:
        classes: C.
        similarity: 'cosine' or 'correlation'.
    """

    def __init__(self, classes: int, similarity: str) -> None:
        from caffe_port.losses.options import FeedbackOptions

        self._options = FeedbackOptions(similarity=similarity)
        self._sums = np.zeros((classes, classes))
        self._images = np.zeros((classes, classes))

    def add(self, scores: Tensor, labels: npt.NDArray[np.integer[Any]]) -> None:
        """Counts one image.

        Args:
            scores: (1, C, h, w), which are the features too.
            labels: (h, w); those outside of 0 to C - 1 do not count.
        """
        import torch

        from caffe_port.losses.feedback_torch import choose, unit

        classes = scores.shape[1]
        flat = scores.double().flatten(2)
        label = torch.from_numpy(labels.astype(np.int64)).reshape(1, -1)
        counted = (label >= 0) & (label < classes)
        label = label.where(counted, 0)
        weight, counts = choose(flat, label, counted, self._options)
        members = torch.zeros_like(flat).scatter_(1, label[:, None], counted[:, None].double())
        templates = (members * weight[:, None]) @ flat.transpose(1, 2)
        alike = unit(templates, 2, self._options) @ unit(flat, 1, self._options)
        means = (alike @ members.transpose(1, 2))[0] / counts[0].clamp(min=1)
        present = (counts[0] > 0).double()
        both = present[:, None] * present[None, :]
        self._sums += (means * both).numpy()
        self._images += both.numpy()

    def means(self) -> Floats:
        """(C, C): rows are templates, columns the pixels' classes."""
        with np.errstate(invalid="ignore"):
            return np.asarray(self._sums / self._images, np.float64)
