"""Which engine an evaluation and a prediction use, and that results of two are never mixed."""

import json

import pytest
from click.testing import CliRunner

from caffe_port.cli import main
from caffe_port.data.voc import voc_items
from caffe_port.errors import UsageError
from caffe_port.evaluation import NetFactory, Options, evaluate
from caffe_port.evaluation.score_net import with_engine
from caffe_port.inference import choice, engines, optimized
from caffe_port.ranks import SingleRank
from tests.goldens_dir import ROOT

SHAPES = ROOT / "examples" / "shapes_voc"
RUN = SHAPES / "caffe_run"
FILES = str(RUN / "recording" / "net.prototxt"), str(RUN / "model" / "train_iter_2400.caffemodel")
FAST = NetFactory(*FILES, optimized=True)
CROP = (161, 161)
OTHERS = [name for name in engines.installed() if name != "torch"]
pytestmark = pytest.mark.skipif(not OTHERS, reason="neither onnxruntime nor openvino")


@pytest.fixture(autouse=True)
def measured(monkeypatch, tmp_path):
    """Measurements in which an engine that is not torch is the fastest; how often they are made."""
    calls = []

    def measure(ways, threads):
        calls.append(threads)
        return {engine: 1.0 + (engine != OTHERS[-1]) for engine in ways}

    monkeypatch.setenv("CAFFE_PORT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(choice, "_in_process", {})
    monkeypatch.setattr(optimized, "measure", measure)
    return calls


def _run(out, factory, count=3, **options):
    return evaluate(voc_items(SHAPES)[:count], factory, out, Options(CROP, jobs=1, **options))


def _labels(out):
    return {path.name: path.read_bytes() for path in sorted((out / "before").glob("*.png"))}


def test_few_images_are_not_measured(measured, capsys):
    assert with_engine(FAST, CROP, images=29).engine == "torch"
    assert not measured
    assert with_engine(FAST, CROP, images=30, threads=1).engine == OTHERS[-1]
    assert measured == [1]
    assert "measuring which engine is the fastest" in capsys.readouterr().err
    assert with_engine(FAST, CROP, images=1, threads=1).engine == OTHERS[-1]  # remembered
    assert with_engine(FAST, CROP, images=None, threads=2).engine == OTHERS[-1]
    assert measured == [1, 2]


def test_what_cannot_be_measured_is_left_to_the_run():
    factory = NetFactory(*FILES, optimized=True, blob="gone")
    assert with_engine(factory, CROP, images=100).engine == "torch"
    plain = NetFactory(*FILES)
    assert with_engine(plain, CROP, images=100) is plain
    elsewhere = NetFactory(*FILES, optimized=True, device="cuda")
    assert with_engine(elsewhere, CROP, images=100).engine == "torch"
    with pytest.raises(UsageError, match="is for the CPU, not for cuda"):
        with_engine(elsewhere.using(OTHERS[0]), CROP, images=1)


@pytest.mark.parametrize("engine", OTHERS)
def test_an_evaluation_repeated_is_the_same_and_records_its_engine(engine, tmp_path):
    for name in ("one", "two"):
        options = {"score_cache": tmp_path / f"scores of {name}"}
        result = _run(tmp_path / name, FAST.using(engine), **options)
        assert result.settings["network"]["engine"] == engines.version_of(engine)
    assert _labels(tmp_path / "one") == _labels(tmp_path / "two")
    scores = [
        sorted(path.read_bytes() for path in (tmp_path / f"scores of {name}").rglob("*.scores"))
        for name in ("one", "two")
    ]
    assert scores[0] == scores[1]
    assert len(scores[0]) == 3


def test_auto_resumes_with_the_engine_of_the_folder(tmp_path, measured):
    _run(tmp_path / "out", FAST.using("torch"))
    result = _run(tmp_path / "out", FAST, count=31)
    assert result.settings["network"]["engine"] == "torch"
    assert not measured
    result = _run(tmp_path / "out", FAST, count=31, fresh=True)
    assert result.settings["network"]["engine"] == engines.version_of(OTHERS[-1])


def test_another_engine_does_not_continue_the_folder(tmp_path):
    _run(tmp_path / "out", FAST.using(OTHERS[0]))
    before = _labels(tmp_path / "out")
    with pytest.raises(UsageError, match=r"network\.engine was .*, is \"torch\""):
        _run(tmp_path / "out", FAST.using("torch"))
    assert _labels(tmp_path / "out") == before


def test_another_version_does_not_continue_the_folder(tmp_path, monkeypatch):
    _run(tmp_path / "out", FAST.using(OTHERS[0]))
    monkeypatch.setattr(engines.metadata, "version", lambda name: "99.0")
    with pytest.raises(UsageError, match=r"network\.engine was"):
        _run(tmp_path / "out", FAST)


def test_a_rank_uses_the_engine_of_the_first(tmp_path):
    class Second(SingleRank):
        number = 1

        def gather(self, mine):
            return [OTHERS[0], mine] if mine == "auto" else [mine]

    _run(tmp_path / "out", FAST.using(OTHERS[0]))  # as the first writes the settings
    items = voc_items(SHAPES)[:3]
    result = evaluate(items, FAST, tmp_path / "out", Options(CROP, jobs=1), ranks=Second())
    assert result.settings["network"]["engine"] == engines.version_of(OTHERS[0])


def _cli(*words):
    done = CliRunner().invoke(main, [*map(str, words)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done


def test_commands(tmp_path):
    images = ("--images", SHAPES, "--list", "val", "--crop", 161)
    found = {}
    for number, words in enumerate(((), ("--no-optimized",), ("--engine", OTHERS[0]))):
        out = tmp_path / str(number)
        _cli("evaluate", *FILES, *images, "-o", out, *words)
        network = json.loads((out / "settings.json").read_text())["network"]
        found[words] = network.get("engine")
    assert found == {
        (): engines.version_of(OTHERS[-1]),  # 60 images
        ("--no-optimized",): None,
        ("--engine", OTHERS[0]): engines.version_of(OTHERS[0]),
    }
    photo = SHAPES / "JPEGImages" / "shape_val_0001.jpg"
    for words in ((), ("--no-optimized",), ("--engine", OTHERS[0])):
        _cli("predict", *FILES, photo, "-o", tmp_path / "predicted", *words)
        written = (tmp_path / "predicted" / "labels" / "shape_val_0001.png").read_bytes()
        found[words] = written
    assert len(set(found.values())) == 3  # the notes differ: no result of another engine is kept
