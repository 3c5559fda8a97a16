"""A wrong word in a text: ``caffe`` and pycaffe stop, as Caffe does; ``caffe-port`` warns."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from caffe_port import pycaffe
from caffe_port.cli import main as caffe_port
from caffe_port.cli.caffe import main as caffe
from caffe_port.cli.caffe_tools.models import draw_net
from caffe_port.errors import FormatError, UnknownFieldWarning, UsageError
from caffe_port.live import mode
from tests.solver.making import NET, solver_file

NETS = {
    "an option": NET.replace("num_output: 2", "num_output: 2 bias_trem: false"),
    "a layer": NET + 'layr { name: "more" type: "ReLU" bottom: "ip" top: "ip" }',
}
WORDS = {
    "an option": "unknown field 'inner_product_param.bias_trem'; is 'bias_term' meant?",
    "a layer": "unknown field 'layr'; is 'layer' meant?",
}


@pytest.fixture(autouse=True)
def _as_at_the_start(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(mode._process, "random", None)
    yield
    mode.allow_unknown_fields(False)


@pytest.mark.filterwarnings("default::caffe_port.errors.UnknownFieldWarning")
@pytest.mark.parametrize("kind", NETS)
def test_caffe_stops(kind: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    solver = solver_file(tmp_path, net=NETS[kind])
    net = str(tmp_path / "net.prototxt")
    line = (
        NETS[kind]
        .splitlines()
        .index(next(text for text in NETS[kind].splitlines() if "trem" in text or "layr" in text))
    )
    for arguments in (["train", f"--solver={solver}"], ["time", f"--model={net}"]):
        assert caffe(arguments) == 1
        log = capfd.readouterr().err
        assert f"{net}: line {line + 1}, column " in log
        assert f"{WORDS[kind]}; -allow_unknown_fields only warns of it" in log
    assert not list(tmp_path.glob("snap*"))
    assert caffe(["train", f"--solver={solver}", "-allow_unknown_fields"]) == 0
    assert WORDS[kind] in capfd.readouterr().err
    assert (tmp_path / "snap_iter_6.caffemodel").exists()


def test_caffe_test_refuses_a_solver(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    solver = solver_file(tmp_path)
    (tmp_path / "w.caffemodel").write_bytes(b"")
    assert caffe(["test", f"--model={solver}", f"--weights={tmp_path}/w.caffemodel"]) == 1
    log = capfd.readouterr().err
    assert f"a solver's prototxt; expected a net's: give the one it names, {tmp_path}/net." in log


def test_caffe_refuses_a_net_without_layers(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "net.prototxt").write_text('name: "n"')
    assert caffe(["time", f"--model={tmp_path}/net.prototxt"]) == 1
    assert "the net 'n' has no layers in phase TRAIN" in capfd.readouterr().err
    with pytest.raises(UsageError, match="no layers in phase TRAIN"):
        pycaffe.get_solver(str(solver_file(tmp_path, net='name: "n"')))


def test_pycaffe_stops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    solver = str(solver_file(tmp_path, net=NETS["an option"]))
    net = str(tmp_path / "net.prototxt")
    with pytest.raises(FormatError, match=r"bias_trem.* CAFFE_PORT_ALLOW_UNKNOWN_FIELDS=1"):
        pycaffe.Net(net, pycaffe.TEST)
    with pytest.raises(FormatError, match="bias_trem"):
        pycaffe.SGDSolver(solver)
    monkeypatch.setenv("CAFFE_PORT_ALLOW_UNKNOWN_FIELDS", "1")
    with pytest.warns(UnknownFieldWarning, match="bias_trem"):
        pycaffe.Net(net, pycaffe.TEST)
    monkeypatch.setenv("CAFFE_PORT_ALLOW_UNKNOWN_FIELDS", "0")
    pycaffe.allow_unknown_fields()
    with pytest.warns(UnknownFieldWarning, match="bias_trem"):
        pycaffe.SGDSolver(solver)


@pytest.mark.filterwarnings("default::caffe_port.errors.UnknownFieldWarning")
def test_caffe_port_warns_and_refuses_where_asked(tmp_path: Path) -> None:
    path = tmp_path / "net.prototxt"
    path.write_text(NETS["an option"])
    pycaffe.allow_unknown_fields()
    with pytest.warns(UnknownFieldWarning):
        pycaffe.Net(str(path), pycaffe.TEST).save(str(tmp_path / "w.caffemodel"))
    convert = ["convert", str(path), str(tmp_path / "w.caffemodel"), "-o", str(tmp_path / "w.pt")]
    for arguments in (["inspect", str(path)], convert):
        result = CliRunner().invoke(caffe_port, arguments)
        assert result.exit_code == 0, result.output
        assert WORDS["an option"] in " ".join(result.output.split())
        result = CliRunner().invoke(caffe_port, [*arguments, "--strict-text"])
        assert result.exit_code == 2
        assert f"{path}: line 10, column 39: layer 'ip': {WORDS['an option']}\n" in result.output


def test_draw_net_stops(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "net.prototxt"
    path.write_text(NETS["a layer"])
    assert draw_net([str(path), str(tmp_path / "net.svg")]) == 1
    assert WORDS["a layer"] in capfd.readouterr().err
