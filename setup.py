"""Builds the compiled extension; everything else about the package is in pyproject.toml.

CAFFE_PORT_DEBUG=1 builds it with bounds checks, assertions and debug symbols, CAFFE_PORT_DEBUG=2
also with AddressSanitizer and UndefinedBehaviorSanitizer (ext/README.md says how to run that).
"""

import os
import re
from pathlib import Path

import numpy
from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_py import build_py

# The address of the published repository: whoever publishes the package writes it here, only here.
REPOSITORY = "https://example.org/caffe-port"

LEVEL = os.environ.get("CAFFE_PORT_DEBUG", "0")
DEBUG = LEVEL not in ("", "0")
SANITIZE = ["-fsanitize=address,undefined", "-fno-sanitize-recover"] if LEVEL == "2" else []

# No -ffast-math and no fused multiply-add: both would move lattice vertices.
FLAGS = ["-std=c++17", "-ffp-contract=off", "-fno-math-errno", "-Wall", "-Wno-psabi"]
# the same module from every folder, and without the debug symbols that Python's own flags ask for
FLAGS += [] if DEBUG else ["-g0", f"-ffile-prefix-map={Path.cwd()}=."]
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


def readme():
    """README.md for a package index, which knows no files of the repository: absolute links."""
    text = Path("README.md").read_text(encoding="utf-8")
    shown = re.sub(r"^<!-- .*?^-->\n", "", text, flags=re.DOTALL | re.MULTILINE)
    images = re.sub(r"(!\[[^]]*\]\()(?!https?:)", rf"\1{REPOSITORY}/raw/main/", shown)
    return re.sub(r"(\]\()(?!https?:|#)", rf"\1{REPOSITORY}/blob/main/", images)


setup(
    long_description=readme(),
    long_description_content_type="text/markdown",
    project_urls={
        "Homepage": REPOSITORY,
        "Documentation": f"{REPOSITORY}/blob/main/docs/tutorial.md",
        "Changelog": f"{REPOSITORY}/blob/main/CHANGELOG.md",
        "Issues": f"{REPOSITORY}/issues",
    },
    ext_modules=cythonize([LATTICE], compiler_directives=DIRECTIVES, force=DEBUG),
    cmdclass={"build_py": WithRecipes},
)
