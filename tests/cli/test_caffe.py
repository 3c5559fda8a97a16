"""The program ``caffe`` against what Caffe's own printed on the same files."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NoReturn

import pytest
import torch

from caffe_port.cli.caffe import main
from caffe_port.cli.caffe_tools import _program as launch
from caffe_port.errors import UsageError
from tests.goldens_dir import GOLDENS, SHAPES

CLI = GOLDENS / "cli"
MODELS = SHAPES / "caffe_run" / "model"
LINE = re.compile(r"[IWEF]\d{4,8} \d\d:\d\d:\d\d\.\d{6} +\d+ (([a-z_]+\.[a-z]+):\d+\]) (.*)")
NUMBER = re.compile(r"(?<![\w#])-?\d+(?:\.\d+)?(?:e[+-]?\d+)?(?!\w)")
PLACES = ("solver.cpp", "sgd_solver.cpp", "caffe.cpp")


def messages(log: str, *places: str) -> list[str]:
    """What a log says in some files, with the line of each, without folders."""
    found = (LINE.fullmatch(line) for line in log.splitlines())
    wanted = places or PLACES
    said = [f"{match[1]} {match[3]}" for match in found if match and match[2] in wanted]
    return [re.sub(r"\S*/(?=\w+\.caffemodel)", "", message) for message in said]


def numbers(message: str) -> list[float]:
    return [float(number) for number in NUMBER.findall(message)]


def assert_same(mine: str, golden: str) -> None:
    """Equal words; equal numbers but for the last of six digits."""
    ours, theirs = messages(mine), messages((CLI / golden).read_text())
    assert [NUMBER.sub("#", m) for m in ours] == [NUMBER.sub("#", m) for m in theirs]
    for our, their in zip(ours, theirs, strict=True):
        assert numbers(our) == pytest.approx(numbers(their), rel=1.1e-5, abs=1.1e-6), their


def solver_text(log: str) -> str:
    """The solver's parameters between two lines of a log."""
    return re.split(r"^I\S+ .*\n", log.partition("Initializing solver")[2], maxsplit=1, flags=re.M)[
        0
    ]


@pytest.fixture(autouse=True)
def _no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """The recordings are of the CPU."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the recorded run's files, where one works."""
    for name in ("train", "test", "solver"):
        text = (CLI / f"{name}.prototxt").read_text()
        (tmp_path / f"{name}.prototxt").write_text(text.replace("${ROOT}", str(SHAPES)))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_training_and_resuming_give_caffes_logs_and_numbers(
    work: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    weights = MODELS / "train_iter_1200.caffemodel"
    assert main(["train", "--solver=solver.prototxt", f"--weights={weights}"]) == 0
    log = capfd.readouterr().err
    assert_same(log, "train.log")
    assert solver_text(log) == solver_text((CLI / "train.log").read_text())
    unbroken = {p.name: p.read_bytes() for p in work.glob("snap_iter_4.*")}
    assert sorted(unbroken) == [
        f"snap_iter_4.{s}" for s in ("caffemodel", "runstate", "solverstate")
    ]

    arguments = ["train", "-solver", "solver.prototxt", "-snapshot", "snap_iter_2.solverstate"]
    assert main([*arguments, "-norunstate"]) == 0
    assert_same(capfd.readouterr().err, "resume.log")

    assert main(arguments) == 0
    log = capfd.readouterr().err
    for name, content in unbroken.items():
        assert (work / name).read_bytes() == content, name
    whole, rest = messages((CLI / "train.log").read_text()), messages(log)
    begin, mine = (said.index(next(m for m in said if "] Iteration 2" in m))
                   for said in (whole, rest))  # fmt: skip
    for our, their in zip(rest[mine:], whole[begin:], strict=True):
        assert numbers(our) == pytest.approx(numbers(their), rel=1.1e-5, abs=1.1e-6), their


def test_a_missing_side_file_is_reported(work: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--solver=solver.prototxt", "-norunstate"]) == 0
    assert not list(work.glob("*.runstate"))
    arguments = ["train", "--solver=solver.prototxt", "--snapshot=snap_iter_4.solverstate"]
    assert main(arguments) == 0
    assert "dropout restart, as in Caffe" in capfd.readouterr().err


def test_testing_gives_caffes_log_and_numbers(
    work: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    weights = MODELS / "train_iter_2400.caffemodel"
    arguments = ["test", "--model=test.prototxt", f"--weights={weights}", "--iterations=5"]
    assert main([*arguments, "--gpu=0"]) == 0
    log = capfd.readouterr().err
    assert messages(log)[1:] == messages((CLI / "test.log").read_text())  # first: no GPU


def test_timing_gives_caffes_log(work: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["time", "--model", "train.prototxt", "-iterations", "2"]) == 0
    ours = messages(capfd.readouterr().err)
    theirs = messages((CLI / "time.log").read_text())
    assert [NUMBER.sub("#", m) for m in ours] == [NUMBER.sub("#", m) for m in theirs]
    assert [m.split("]")[0] for m in ours] == [m.split("]")[0] for m in theirs]


def test_a_nets_set_up_is_logged_as_caffe_does(
    work: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    main(["time", "--model", "train.prototxt", "-iterations", "1"])
    log, golden = capfd.readouterr().err, (CLI / "time.log").read_text()
    assert messages(log, "net.cpp") == messages(golden, "net.cpp")
    ours, theirs = (
        [line for line in text.splitlines() if line and not LINE.fullmatch(line)]
        for text in (log, golden.replace("${ROOT}", str(SHAPES)))
    )
    assert ours == theirs  # the net's text


# what log parsers look for: tools/extra/parse_log.py, extract_seconds.py, plot_training_log
PARSERS = {
    "iteration": (r"Iteration (\d+)", 10),
    "train": (r"Train net output #(\d+): (\S+) = ([\.\deE+-]+)", 16),
    "rate": (r"lr = ([-+]?[0-9]*\.?[0-9]+([eE]?[-+]?[0-9]+)?)", 4),
    "loss": (r"Iteration \d+, loss = [\d.]+", 5),
    "start": (r"^[IWEF](\d\d)(\d\d) \d\d:\d\d:\d\d\.\d+ .*Solving", 1),
}


def test_log_parsers_find_what_they_look_for(
    work: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (work / "log").mkdir()
    monkeypatch.setenv("GLOG_log_dir", "log")
    assert main(["train", "--solver=solver.prototxt"]) == 0
    printed = capfd.readouterr().err
    written = (work / "log" / "caffe.INFO").read_text()
    for text in (printed, written):
        found = {
            name: sum(bool(re.search(pattern, line)) for line in text.splitlines())
            for name, (pattern, _) in PARSERS.items()
        }
        assert found == {
            name: count - (name == "iteration") for name, (_, count) in PARSERS.items()
        }
    head = written.splitlines()[:3]
    assert head[0].startswith("Log file created at: ")
    assert head[2] == "Log line format: [IWEF]mmdd hh:mm:ss.uuuuuu threadid file:line] msg"
    assert written.endswith(printed[-200:])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train"], "Need a solver definition to train"),
        (["train", "-solver=s", "-snapshot=a", "-weights=b"], "but not both"),
        (["train", "-solver=s", "-sigint_effect=die"], "signal effect is 'die'"),
        (["train", "-solver=gone.prototxt"], "gone.prototxt"),
        (["train", "-solver=s", "-gpu=-1", "-amp=int8"], "amp is 'int8'; expected bf16 or fp16"),
        (["train", "-solver=s", "-gpu=-1", "-compile", "-checkpoint"], "give one of them"),
        (["test"], "Need a model definition to score"),
        (["test", "-model=m"], "Need model weights to score"),
        (["test", "-model=m", "-weights=w", "-iterations=0"], "-iterations is 0"),
        (["time"], "Need a model definition to time"),
        (["time", "-model=m", "-phase=BOTH"], "expected TRAIN or TEST"),
        (["time", "-model=m", "-gpu=x"], "-gpu is 'x'"),
        (["time", "-model=m", "-gpu=0,1"], "one process computes on one GPU"),
        (["retrain"], "Unknown action: retrain"),
        ([], "expected one command"),
        (["train", "-verbose"], "unknown command line flag 'verbose'"),
    ],
)
def test_refused_arguments(
    arguments: list[str], message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 1
    error = capfd.readouterr().err
    assert message in error
    assert any(line.startswith("F") for line in error.splitlines())


def test_help_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["-help"]) == 0
    shown = capsys.readouterr().out
    for flag in ("-solver", "-sighup_effect", "-iterations", "-stage", "-norunstate"):
        assert flag in shown
    assert main(["--version"]) == 0
    assert "caffe version" in capsys.readouterr().out


@pytest.mark.parametrize("gpu", ["-gpu=-1", "-gpu=", "-gpu=all"])
def test_no_gpu_is_the_cpu(work: Path, gpu: str, capfd: pytest.CaptureFixture[str]) -> None:
    arguments = ["time", "-model=train.prototxt", "-iterations=1", "-phase=TRAIN", "-v=1", gpu]
    assert main(arguments) == 0
    assert messages(capfd.readouterr().err, "caffe.cpp")[0] == "caffe.cpp:313] Use CPU."


def test_a_missing_gpu_is_an_error(work: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["time", "-model=train.prototxt", "-iterations=1", "-gpu=0"]) == 0
    assert messages(capfd.readouterr().err, "caffe.cpp")[:2] == [
        "caffe.cpp:1] -gpu 0: torch finds no GPU here; using the CPU.",
        "caffe.cpp:313] Use CPU.",
    ]


def test_several_gpus_to_train_on(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A process for each, which upstream's threads were; without any, one process on the CPU."""
    assert main(["train", "-solver=gone.prototxt", "-gpu=0,1"]) == 1
    said = messages(capfd.readouterr().err, "caffe.cpp")
    assert said[0] == "caffe.cpp:1] -gpu 0: torch finds no GPU here; using the CPU."
    started: list[list[int]] = []

    def run_on(gpus: list[int]) -> NoReturn:
        started.append(gpus)
        raise UsageError("this process is others now")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(launch, "run_on", run_on)
    assert main(["train", "-solver=gone.prototxt", "-gpu=0,1"]) == 1
    assert started == [[0, 1]]


def test_device_query(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["device_query", "-gpu", "all"]) == 0
    assert messages(capfd.readouterr().err, "caffe.cpp") == ["caffe.cpp:138] Querying GPUs all"]


def test_a_log_folder_that_is_not_there_does_not_stop_the_run(
    work: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["device_query", "-log_dir=gone"]) == 0
    assert "Could not create a log file in 'gone'" in capfd.readouterr().err
