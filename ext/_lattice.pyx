"""The compiled half of caffe_port.crf. Python code checks the arguments first.

No call holds the GIL while it computes, and none changes a Kernel once it is built, so that
threads may share them.
"""

from libc.stdint cimport int32_t, uint8_t
from libcpp cimport bool as cbool
from libcpp.memory cimport unique_ptr
from libcpp.vector cimport vector


cdef extern from "mean_field.h" namespace "caffe_port::crf" nogil:
    cdef enum class Normalization:
        pass

    cdef enum class Exponential:
        pass

    cdef struct Features:
        size_t height, width
        int dimension
        const float* rows
        float position_width[2]
        const uint8_t* bytes
        const float* floats
        float colour_width[3]

    cdef cppclass CLattice "caffe_port::crf::Lattice":
        size_t vertices()

    cdef cppclass CKernel "caffe_port::crf::Kernel":
        CKernel(const Features&, Normalization, cbool, int) except +
        const CLattice& lattice()

    cdef cppclass Term:
        const CKernel* kernel
        float weight
        const float* matrix

    cdef cppclass Problem:
        size_t labels, height, width
        const float* unary
        const float* start
        vector[Term] terms
        int iterations
        Exponential exponential
        cbool normalise, adjoint, exact
        int threads
        float* q
        int32_t* best

    void c_mean_field "caffe_port::crf::mean_field"(const Problem&) except +


cdef extern from "paths.h" namespace "caffe_port::crf" nogil:
    cdef struct Path:
        const char* name
        void (*exponential)(Exponential, const float*, float*, size_t)

    const Path& c_path "caffe_port::crf::path"()
    bint c_choose_path "caffe_port::crf::choose_path"(const char*)


cdef extern from "pixel_order.h" namespace "caffe_port::crf" nogil:
    int kChunks

MOST_THREADS = kChunks  # for one image
NORMALIZATIONS = ("none", "before", "after", "symmetric")
EXPONENTIALS = ("exact", "cut off", "clamped")


cdef class Kernel:
    """One normalised Gaussian kernel over the pixels of an image."""

    cdef unique_ptr[CKernel] kernel
    cdef readonly size_t height, width
    cdef readonly bint exact

    cdef void build(self, Features features, str normalization, bint exact, int threads) except *:
        cdef int which = NORMALIZATIONS.index(normalization)
        if features.height == 0 or features.width == 0 or not 1 <= features.dimension <= 16:
            raise ValueError("there must be pixels, and 1 to 16 dimensions")
        if not 1 <= threads <= MOST_THREADS:
            raise ValueError(f"threads must be 1 to {MOST_THREADS}")
        with nogil:
            self.kernel.reset(new CKernel(features, <Normalization>which, exact, threads))
        self.height, self.width, self.exact = features.height, features.width, exact

    @staticmethod
    def of_features(
        const float[:, :, ::1] rows not None, str normalization, bint exact=False, int threads=1
    ):
        """A kernel over feature vectors (height, width, dimension)."""
        cdef Kernel self = Kernel.__new__(Kernel)
        cdef Features features
        features.height, features.width = rows.shape[0], rows.shape[1]
        features.dimension = <int>min(rows.shape[2], 17)
        if rows.shape[0] and rows.shape[1] and rows.shape[2]:
            features.rows = &rows[0, 0, 0]
        self.build(features, normalization, exact, threads)
        return self

    @staticmethod
    def of_image(
        int height,
        int width,
        float[::1] widths not None,
        const uint8_t[:, :, ::1] bytes,
        const float[:, :, ::1] floats,
        str normalization,
        bint exact=False,
        int threads=1,
    ):
        """A kernel over positions (widths in x and y), or over these and colours (three more)."""
        cdef Kernel self = Kernel.__new__(Kernel)
        cdef Features features
        cdef int i
        shape = (height, width, 3)
        features.height, features.width = max(height, 0), max(width, 0)
        features.dimension = <int>min(widths.shape[0], 17)
        if features.dimension not in (2, 5):
            raise ValueError("there must be 2 or 5 widths")
        for i in range(2):
            features.position_width[i] = widths[i]
        if features.dimension == 5:
            for i in range(3):
                features.colour_width[i] = widths[2 + i]
            if bytes is not None and (bytes.shape[0], bytes.shape[1], bytes.shape[2]) == shape:
                features.bytes = &bytes[0, 0, 0]
            elif floats is not None and (floats.shape[0], floats.shape[1], floats.shape[2]) == shape:
                features.floats = &floats[0, 0, 0]
            else:
                raise ValueError("colours must be (height, width, 3)")
        self.build(features, normalization, exact, threads)
        return self

    @property
    def vertices(self) -> int:
        """Number of vertices of the lattice, those of the padding included."""
        return self.kernel.get().lattice().vertices()


def mean_field(
    const float[:, :, ::1] unary not None,
    tuple kernels not None,
    tuple weights not None,
    int iterations,
    *,
    const float[:, :, ::1] start=None,
    float[:, :, ::1] q=None,
    int32_t[:, ::1] best=None,
    str exponential="cut off",
    bint normalise=True,
    bint adjoint=False,
    bint exact=False,
    int threads=1,
):
    """Fill q (labels, height, width) with the marginals of unary, of the same shape.

    Each kernel has a weight, a float or a cost matrix (labels, labels) float32. best (height,
    width) gets the most probable labels. start is the first Q. adjoint takes the kernels' transposes.
    """
    cdef Problem problem
    cdef Kernel kernel
    cdef Term term
    cdef const float[:, ::1] matrix
    shape = (unary.shape[0], unary.shape[1], unary.shape[2])
    if 0 in shape or not 1 <= threads <= MOST_THREADS or iterations < 0:
        raise ValueError("there must be labels, pixels, 1 to 8 threads, and iterations not negative")
    if start is not None and (start.shape[0], start.shape[1], start.shape[2]) != shape:
        raise ValueError("start must have the shape of unary")
    if q is not None and (q.shape[0], q.shape[1], q.shape[2]) != shape:
        raise ValueError("q must have the shape of unary")
    if best is not None and (best.shape[0], best.shape[1]) != shape[1:]:
        raise ValueError("best must have an element for each pixel")
    if len(kernels) != len(weights):
        raise ValueError("each kernel must have a weight")
    for kernel, weight in zip(kernels, weights):
        if kernel is None or (kernel.height, kernel.width, kernel.exact) != (*shape[1:], exact):
            raise ValueError("each kernel must be built for pixels and an order as those of unary")
        term.kernel = kernel.kernel.get()
        term.matrix = NULL
        term.weight = 0
        if isinstance(weight, float):
            term.weight = weight
        else:
            matrix = weight
            if (matrix.shape[0], matrix.shape[1]) != (shape[0], shape[0]):
                raise ValueError("a matrix must be labels by labels")
            term.matrix = &matrix[0, 0]
        problem.terms.push_back(term)
    problem.labels, problem.height, problem.width = shape
    problem.unary = &unary[0, 0, 0]
    problem.iterations, problem.threads = iterations, threads
    problem.exponential = <Exponential><int>EXPONENTIALS.index(exponential)
    problem.normalise, problem.adjoint, problem.exact = normalise, adjoint, exact
    if start is not None:
        problem.start = &start[0, 0, 0]
    if q is not None:
        problem.q = &q[0, 0, 0]
    if best is not None:
        problem.best = &best[0, 0]
    with nogil:
        c_mean_field(problem)


def exponential(const float[::1] x not None, float[::1] y not None, str kind):
    """Fill y with the exponential of x, as computed by the softmax of a kind (for tests)."""
    cdef int which = EXPONENTIALS.index(kind)
    if x.shape[0] != y.shape[0] or x.shape[0] == 0:
        raise ValueError("x and y must have the same length, not 0")
    c_path().exponential(<Exponential>which, &x[0], &y[0], x.shape[0])


def instructions(str choice=None) -> str:
    """The instruction set in use; a choice ("best", "portable", ...) sets it for the process."""
    if choice is not None and not c_choose_path(choice.encode()):
        raise ValueError(f"no instruction set {choice!r} here")
    return c_path().name.decode()
