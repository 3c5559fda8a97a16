"""The one table of tolerances of this project, and the standard error of float32 sums.

A float32 sum in another order is not an error, so a port cannot be required to equal Caffe's
numbers. Both are compared with the exact answer: the port in float64, layer by layer, on the very
numbers that the layer was given. What a correct float32 implementation may differ by follows from
the magnitudes that were summed.

**Sums of products** (convolution, deconvolution, inner product, and their gradients). Let
S = sum p_k of K products, Q = sum p_k^2, u = 2^-24. Recursive summation rounds after each addition,
by at most u |s_k| where s_k is the partial sum (Higham, Accuracy and Stability of Numerical
Algorithms, section 4.2). With the roundings independent and of mean 0 (Higham and Mary, A new
approach to probabilistic rounding error analysis, 2019), the variance is at most
u^2 sum s_k^2. With the products in any order that is unrelated to their values,
E s_k^2 = (k/K)^2 S^2 + k (1 - k/K) Q/K + ..., so that

    sigma^2 = u^2 (K (S^2 / 9 + Q / 6) + (S^2 + Q) / 3)

where 1/9 and 1/6 are 1/3 (a rounding is uniform, its variance is a third of the largest square)
times 1/3 and 1/2 (sums of (k/K)^2 and of k/K), and the last term is the rounding of the products
and of the result. Blocked and pairwise sums, and fused multiply-adds, round less.

**Other layers.** sigma is the largest response of the blob to relative changes of 1 u of every
number that the layer reads (bottoms, parameters, top diffs), which shows the terms that cancel; at
least 1 u of the blob's peak; times sqrt(4 + K / 9) where the layer sums K numbers of one sign. Or
else, where that is larger, the response to changes of 1 u of every number that the layer computes
on the way (``parity.responses``).

The bounds below are multiples of sigma.
"""

from __future__ import annotations

import math

from torch import Tensor

#: Unit roundoff of float32.
UNIT = 2.0**-24

#: Smallest normal number of float32. What is smaller is rounded coarsely or becomes 0, so that no
#: result is known better than to this.
SMALLEST = 2.0**-126

#: Roundings of one element in a layer that sums no products: a few operations and a function such
#: as exp, whose implementations are right to 1 or 2 units.
OPERATIONS = 4.0

#: The largest error of an element, in sigma. Roundings of short sums are not normal but nearly
#: uniform or worse correlated; over all recordings the largest seen is stated in docs/verify.md.
PER_ELEMENT = 8.0

#: The largest root mean square, over a large blob, of error / sigma. Recursive summation in an
#: order unrelated to the values gives 1/sqrt(3).
ROOT_MEAN_SQUARE = 1.2

#: Where an element exceeds its bound, it may still be this many times as far off as recursive
#: summation in float32, carried out on its own products, is.
PLAIN_SUM = 2.0

#: Blobs that were not recorded are filled in by the port, which rounds as Caffe did: two roundings.
FILLED = 2.0**0.5

#: A value within this part of the blob's peak of 0 may have either sign in float32.
TIE_OF_PEAK = 1e-5

#: Elements of a blob up to which the errors between its writers are kept for the backward pass.
REMEMBERED = 2**18

#: Float32 rounding through a whole net, as a part of the blob's peak. The recorded nets stay far
#: below it; convolutions in bfloat16 or TF32 are far above it.
WHOLE_NET_OF_PEAK = 1e-4

#: Values beyond this are no results but signs (-FLT_MAX of an empty max window, infinities): they
#: must be equal, and take no part in errors and peaks.
EXTREME = 1e37


def sum_variance(total: Tensor, squares: Tensor, length: float) -> Tensor:
    """sigma^2 of float32 sums of ``length`` products, element by element.

    Args:
        total: S, the exact sums, any shape.
        squares: Q, the sums of the squared products, same shape.
        length: K, at least 1.
    """
    sequential = length * (total * total / 9 + squares / 6)
    return UNIT**2 * (sequential + (total * total + squares) / 3) + length * SMALLEST**2


def mean_square_limit(count: int) -> float:
    """The largest root mean square of error / sigma over a blob of ``count`` elements.

    A blob of one element may have the error of one element.
    """
    return ROOT_MEAN_SQUARE + (PER_ELEMENT - ROOT_MEAN_SQUARE) / math.sqrt(max(count, 1))
