# make demo: builds, then converts, verifies and evaluates the bundled Caffe model
# make test: builds and runs every test
# make lint, make docs (the documentation, into site/), make bench (all benchmarks),
# make browser (tests of the page of `explore` in Chromium),
# make attacks (hostile files; docs/security.md), make fuzz (SECONDS or RUNS each target),
# make differential CAFFE="COMMAND" (random nets, compared with any Caffe; docs/differential.md),
# make gpu (all that one CUDA GPU can check, in eight minutes; docs/gpu.md),
# make package (sdist and wheel as a release has them, checked and installed, into dist/),
# make sanitize (the lattice under sanitizers), make wheels (into dist/),
# make matrix (all tests under old and new Pythons and libraries),
# make processors (tests that compare numbers, under several instruction sets)
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
SOURCES := setup.py pyproject.toml constraints.txt $(wildcard ext/*.h ext/*.cpp ext/*.pyx)
HAND_WRITTEN := $(filter-out ext/_lattice.cpp,$(SOURCES))

.PHONY: demo test browser lint docs bench attacks fuzz differential gpu sanitize package wheels \
	matrix processors proto clean

demo: $(VENV)/installed
	$(BIN)/caffe-port demo -o demo

# Tests start hundreds of interpreters; without bytecode each compiles the package again, and each
# worker rewrites the assertions of all tests.
test: export PYTHONDONTWRITEBYTECODE :=
test: $(VENV)/installed-for-tests
	$(BIN)/python -m compileall -q caffe_port tests tools
	OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses 2 --dist loadfile

browser: $(VENV)/installed-for-tests
	$(BIN)/pip install --quiet --editable '.[test,browser]'
	OMP_NUM_THREADS=1 $(BIN)/pytest tests/explore/test_browser.py

lint: $(VENV)/installed-for-lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(BIN)/check-jsonschema --builtin-schema vendor.citation-file-format CITATION.cff

docs: $(VENV)/installed-for-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

bench: $(VENV)/installed-for-tests
	$(BIN)/python -m benchmarks

attacks: $(VENV)/installed-for-tests
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.attacks --jobs 2

# SECONDS for each target, and docs/fuzz.md; or so many RUNS, the same ones every time
SECONDS ?= 240
fuzz: $(VENV)/installed-for-fuzz
	OMP_NUM_THREADS=1 PYTHONHASHSEED=0 $(BIN)/python -m tests.fuzz \
		$(if $(RUNS),--runs $(RUNS) --jobs 2,--seconds $(SECONDS))

# random nets, carried out by the port and by a Caffe: make differential CAFFE="chroot /root python3"
CASES ?= 500
differential: $(VENV)/installed-for-tests
	OMP_NUM_THREADS=1 $(BIN)/python -m tools.differential --caffe "$(CAFFE)" --cases $(CASES)

# only some PARTS, with commas; AGAIN=1 repeats parts that have passed
gpu: $(VENV)/installed-for-tests
	$(BIN)/python -m tools.gpu $(if $(PARTS),--parts $(PARTS)) $(if $(AGAIN),--again)

# the lattice under AddressSanitizer and UndefinedBehaviorSanitizer; the usual build comes back after
SANITIZERS = $$(gcc -print-file-name=libasan.so) $$(gcc -print-file-name=libstdc++.so)
sanitize: $(VENV)/installed-for-tests
	$(BIN)/pip install --quiet cython setuptools
	CAFFE_PORT_DEBUG=2 $(BIN)/python setup.py --quiet build_ext --inplace --force
	LD_PRELOAD="$(SANITIZERS)" ASAN_OPTIONS=detect_leaks=0 $(BIN)/pytest tests/crf; \
		status=$$?; $(BIN)/python setup.py --quiet build_ext --inplace --force; exit $$status

$(VENV)/installed: $(HAND_WRITTEN)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable .
	touch $@

$(VENV)/installed-for-tests: $(VENV)/installed
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[test,triton]'
	touch $@

# atheris has no wheels for some Pythons and machines; fuzzing then goes without
$(VENV)/installed-for-fuzz: $(VENV)/installed-for-tests
	-$(BIN)/pip install --quiet --only-binary atheris --editable '.[test,fuzz]'
	touch $@

$(VENV)/installed-for-lint: $(VENV)/installed-for-tests
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[test,lint]'
	touch $@

$(VENV)/installed-for-package: $(VENV)/installed
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[package]'
	touch $@

$(VENV)/installed-for-docs: $(VENV)/installed
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[docs]'
	touch $@

package: $(VENV)/installed-for-package
	$(BIN)/python -m tools.package -o dist

wheels:
	$(PYTHON) -m tools.matrix.wheels

matrix:
	$(PYTHON) -m tools.matrix

# ONLY some settings, and only some TESTS; docs/matrix.md then stays as it is
processors: $(VENV)/installed-for-tests
	$(BIN)/python -m tools.matrix.processors $(if $(ONLY),--only $(ONLY)) $(if $(TESTS),-- $(TESTS))

# caffe_pb2 runs on protobuf 4 to 7 only when made by a protoc of the 4.x time
proto:
	$(PYTHON) -m venv $(VENV)-proto
	$(VENV)-proto/bin/pip install --quiet 'setuptools<70' 'grpcio-tools==1.59.3'
	$(VENV)-proto/bin/python -m grpc_tools.protoc -I. --python_out=. --pyi_out=. \
		caffe_port/proto/caffe.proto

clean:
	rm -rf $(VENV) $(VENV)-proto build demo site .matrix dist *.egg-info caffe_port/crf/*.so ext/_lattice.cpp
