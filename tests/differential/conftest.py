"""Another Caffe for the differential test: the port in a process of its own, with faults."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import preloaded
from tests.goldens_dir import ROOT
from tools.differential.nets import Catalogue, catalogue_of
from tools.differential.sides import CaffeSide

FAULTY = Path(__file__).parent / "faulty"


@pytest.fixture(scope="session")
def fault_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file that names the present fault."""
    return tmp_path_factory.mktemp("faulty") / "fault"


@pytest.fixture(scope="session")
def command(plain_command: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """What starts the other Caffe, without importing torch again."""
    folder = tmp_path_factory.mktemp("preloaded")
    preloaded.write_commands(folder, {"python": []})
    return plain_command.replace(sys.executable, str(folder / "python"))


@pytest.fixture(scope="session")
def plain_command(fault_file: Path) -> str:
    """What starts the other Caffe as one process, which a signal ends."""
    settings = {"FAULT_FILE": str(fault_file), "FAULTY_ROOT": str(ROOT), "PYTHONPATH": str(FAULTY),
                "CAFFE_PORT_DIALECT": "deeplab2"}  # fmt: skip
    words = ["env", *(f"{name}={value}" for name, value in settings.items()), sys.executable]
    return shlex.join(words)


@pytest.fixture(scope="session")
def other(command: str) -> Iterator[CaffeSide]:
    """The other Caffe, started once."""
    with CaffeSide(command, timeout=120) as side:
        yield side


@pytest.fixture(scope="session")
def catalogue(other: CaffeSide) -> Catalogue:
    """Every layer type that can be drawn."""
    about = other.about()
    return catalogue_of(about["schema"], about["types"])


@pytest.fixture
def fault(fault_file: Path) -> Iterator[Path]:
    """A fault for one test: write its name into this file."""
    yield fault_file
    fault_file.unlink(missing_ok=True)


@pytest.fixture(autouse=True)
def _dialect(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAFFE_PORT_DIALECT", "deeplab2")


@pytest.fixture(autouse=True)
def _own_environment() -> Iterator[None]:
    """What a run sets for its processes does not reach other tests."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)
