"""The compiled half of caffe_port.crf. Arguments are checked in Python before they come here.

No call holds the GIL while it computes, and none changes a Kernel once it is built, so that
threads may share them.
"""

from libcpp.memory cimport unique_ptr
from libcpp.vector cimport vector


cdef extern from "mean_field.h" namespace "caffe_port::crf" nogil:
    cdef enum class Normalization:
        kAfter
        kSymmetric

    cdef cppclass CLattice "caffe_port::crf::Lattice":
        size_t vertices()

    cdef cppclass CKernel "caffe_port::crf::Kernel":
        CKernel(const float*, size_t, int, float, Normalization) except +
        const CLattice& lattice()

    void c_mean_field "caffe_port::crf::mean_field"(
        const float*, size_t, size_t, const vector[const CKernel*]&, int, float*
    ) except +


cdef class Kernel:
    """One Gaussian kernel: the lattice of features (pixels, dimension), its weight, its norm."""

    cdef unique_ptr[CKernel] kernel
    cdef readonly size_t pixels

    def __cinit__(self, const float[:, ::1] features not None, float weight, bint symmetric):
        cdef size_t pixels = features.shape[0]
        cdef int dimension = <int>features.shape[1]
        cdef Normalization normalization = (
            Normalization.kSymmetric if symmetric else Normalization.kAfter
        )
        if pixels == 0 or not 1 <= features.shape[1] <= 8:
            raise ValueError("features must have at least one row and 1 to 8 columns")
        with nogil:
            self.kernel.reset(
                new CKernel(&features[0, 0], pixels, dimension, weight, normalization)
            )
        self.pixels = pixels

    @property
    def vertices(self) -> int:
        """Number of vertices of the lattice, those of the padding included."""
        return self.kernel.get().lattice().vertices()


def mean_field(
    const float[:, ::1] unary not None, tuple kernels, int iterations, float[:, ::1] q not None
):
    """Fill q (labels, pixels) with the marginals of unary (labels, pixels) after iterations."""
    cdef vector[const CKernel*] pointers
    cdef Kernel kernel
    cdef size_t labels = unary.shape[0], pixels = unary.shape[1]
    if labels == 0 or pixels == 0 or q.shape[0] != unary.shape[0] or q.shape[1] != unary.shape[1]:
        raise ValueError("unary and q must have the same shape, without zeros")
    for kernel in kernels:
        if kernel is None or kernel.pixels != pixels:
            raise ValueError("each kernel must be built for as many pixels as unary has")
        pointers.push_back(kernel.kernel.get())
    with nogil:
        c_mean_field(&unary[0, 0], labels, pixels, pointers, iterations, &q[0, 0])
