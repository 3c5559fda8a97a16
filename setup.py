"""Builds the compiled extension; everything else about the package is in pyproject.toml.

CAFFE_PORT_DEBUG=1 builds it with bounds checks, assertions and debug symbols.
"""

import os

import numpy
from Cython.Build import cythonize
from setuptools import Extension, setup

DEBUG = os.environ.get("CAFFE_PORT_DEBUG", "0") not in ("", "0")

# No -ffast-math and no fused multiply-add: both would move lattice vertices.
FLAGS = ["-std=c++17", "-ffp-contract=off", "-fno-math-errno", "-Wall", "-Wno-psabi"]
FLAGS += ["-O1", "-g", "-UNDEBUG", "-D_GLIBCXX_ASSERTIONS"] if DEBUG else ["-O3"]

DIRECTIVES = {
    "language_level": 3,
    "boundscheck": DEBUG,
    "wraparound": False,
    "initializedcheck": DEBUG,
    "cdivision": True,
    "embedsignature": True,
}

LATTICE = Extension(
    "caffe_port.crf._lattice",
    ["ext/_lattice.pyx", "ext/lattice.cpp", "ext/mean_field.cpp"],
    depends=[f"ext/{name}.h" for name in ("float_state", "key_table", "lattice", "mean_field")]
    + ["ext/rows.h", "ext/softmax.h"],
    include_dirs=["ext", numpy.get_include()],
    define_macros=[("NPY_NO_DEPRECATED_API", "NPY_1_7_API_VERSION")],
    extra_compile_args=FLAGS,
    language="c++",
)

setup(ext_modules=cythonize([LATTICE], compiler_directives=DIRECTIVES, force=DEBUG))
