"""Builds the compiled extension; everything else about the package is in pyproject.toml.

CAFFE_PORT_DEBUG=1 builds it with bounds checks, assertions and debug symbols, CAFFE_PORT_DEBUG=2
also with AddressSanitizer and UndefinedBehaviorSanitizer (ext/README.md says how to run that).
"""

import os
from pathlib import Path

import numpy
from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_py import build_py

LEVEL = os.environ.get("CAFFE_PORT_DEBUG", "0")
DEBUG = LEVEL not in ("", "0")
SANITIZE = ["-fsanitize=address,undefined", "-fno-sanitize-recover"] if LEVEL == "2" else []

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

SOURCES = ("buffer", "lattice", "line_blur", "mean_field", "path_avx2", "path_portable", "paths")

LATTICE = Extension(
    "caffe_port.crf._lattice",
    ["ext/_lattice.pyx"] + [f"ext/{name}.cpp" for name in SOURCES],
    depends=sorted(map(str, Path("ext").glob("*.h"))),
    include_dirs=["ext", numpy.get_include()],
    define_macros=[("NPY_NO_DEPRECATED_API", "NPY_1_7_API_VERSION")],
    extra_compile_args=FLAGS + SANITIZE,
    extra_link_args=SANITIZE,
    language="c++",
)


class WithRecipes(build_py):
    """Copies the nets and recipes of prototxt/, which is next to the package, into a wheel."""

    def run(self):
        super().run()
        for file in [] if self.editable_mode else sorted(Path("prototxt").rglob("*.prototxt")):
            target = Path(self.build_lib, "caffe_port", file)
            self.mkpath(str(target.parent))
            self.copy_file(str(file), str(target))


setup(
    ext_modules=cythonize([LATTICE], compiler_directives=DIRECTIVES, force=DEBUG),
    cmdclass={"build_py": WithRecipes},
)
