"""What make wheels and make matrix hold wheels against, and the page they make; no network."""

import io
import json
import re
import tarfile
import zipfile
from types import SimpleNamespace

import pytest

from tests.goldens_dir import ROOT
from tools.matrix import __main__ as matrix
from tools.matrix import environments, trial
from tools.matrix.__main__ import Outcome, keep
from tools.matrix.archives import check_sdist, check_wheel, sources
from tools.matrix.building import PYTHONS, Wheel, glibc_of
from tools.matrix.environments import ROWS, Tally, fingerprint, read_report
from tools.matrix.page import write

TRACKED = (
    "LICENSE", "MANIFEST.in", "README.md", "pyproject.toml", "setup.py", "ext/lattice.cpp",
    "caffe_port/__init__.py", "caffe_port/cli.py", "caffe_port/py.typed",
    "prototxt/net/train.prototxt", "prototxt/build.py", "tests/test_net.py", "docs/a.md",
)  # fmt: skip
INFO = "caffe_port-0.1.0.dist-info"
FILES = {
    "caffe_port/__init__.py": "", "caffe_port/cli.py": "", "caffe_port/py.typed": "",
    "caffe_port/prototxt/net/train.prototxt": "",
    "caffe_port/crf/_lattice.cpython-312-aarch64-linux-gnu.so": "",
    f"{INFO}/METADATA": "", f"{INFO}/RECORD": "", f"{INFO}/top_level.txt": "",
    f"{INFO}/licenses/LICENSE": "", f"{INFO}/WHEEL": "Tag: cp312-cp312-manylinux_2_28_aarch64\n",
    f"{INFO}/entry_points.txt": "[console_scripts]\ncaffe-port = caffe_port.cli:main\n",
}  # fmt: skip


def wheel(folder, **changes):
    path = folder / "caffe_port-0.1.0-cp312-cp312-manylinux_2_28_aarch64.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in {**FILES, **changes}.items():
            if text is not None:
                archive.writestr(name, text)
    return path


def sdist(folder, names):
    path = folder / "caffe_port-0.1.0.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for name in names:
            archive.addfile(tarfile.TarInfo(f"caffe_port-0.1.0/{name}"), io.BytesIO())
    return path


def test_a_whole_wheel(tmp_path):
    extension = check_wheel(wheel(tmp_path), TRACKED, "aarch64")
    assert extension == "caffe_port/crf/_lattice.cpython-312-aarch64-linux-gnu.so"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"caffe_port/py.typed": None}, "lacks caffe_port/py.typed"),
        ({"caffe_port/prototxt/net/train.prototxt": None}, "lacks caffe_port/prototxt"),
        ({f"{INFO}/licenses/LICENSE": None}, "lacks .*LICENSE"),
        ({"tests/test_net.py": ""}, "should not hold tests/test_net.py"),
        ({"caffe_port/lattice.cpp": ""}, "should not hold caffe_port/lattice.cpp"),
        ({f"{INFO}/WHEEL": "Tag: cp312-cp312-linux_aarch64\n"}, "names another tag"),
        ({f"{INFO}/entry_points.txt": "[console_scripts]\ncaffe = caffe_port.gone:main\n"},
         "the command caffe is caffe_port.gone:main, which is not in it"),
    ],
)  # fmt: skip
def test_a_wheel_that_is_not_what_it_must_be(tmp_path, changes, told):
    with pytest.raises(ValueError, match=told):
        check_wheel(wheel(tmp_path, **changes), TRACKED, "aarch64")


def test_another_processors_wheel(tmp_path):
    with pytest.raises(ValueError, match=r"lacks .*312-x86_64-linux-gnu\.so"):
        check_wheel(wheel(tmp_path), TRACKED, "x86_64")


def test_an_sdist_holds_the_sources_and_no_more(tmp_path):
    whole = [*sources(TRACKED), "PKG-INFO", "setup.cfg", "caffe_port.egg-info/SOURCES.txt"]
    check_sdist(sdist(tmp_path, whole), TRACKED)
    assert "tests/test_net.py" not in whole
    assert "prototxt/build.py" not in whole
    for name in ("LICENSE", "ext/lattice.cpp", "prototxt/net/train.prototxt"):
        with pytest.raises(ValueError, match=f"lacks {name}"):
            check_sdist(sdist(tmp_path, [n for n in whole if n != name]), TRACKED)
    with pytest.raises(ValueError, match=r"should not hold ext/_lattice\.cpp"):
        check_sdist(sdist(tmp_path, [*whole, "ext/_lattice.cpp"]), TRACKED)


@pytest.mark.parametrize(
    ("tag", "external", "told"),
    [
        ("manylinux_2_34_x86_64", {}, "promised is glibc"),
        ("manylinux_2_17_aarch64", {}, "promised is glibc"),
        ("linux_x86_64", {}, "promised is glibc"),
        ("manylinux_2_17_x86_64", {"libstdc++.so.6": None}, r"asks for libstdc\+\+\.so\.6"),
    ],
)
def test_a_wheel_that_asks_for_more_than_promised(tag, external, told):
    with pytest.raises(ValueError, match=told):
        glibc_of({"overall_tag": tag, "external_libs": external}, "a.whl", "x86_64")


@pytest.mark.parametrize("minor", [17, 28])
def test_the_glibc_that_is_needed(minor):
    found = {"overall_tag": f"manylinux_2_{minor}_aarch64", "external_libs": {}}
    assert glibc_of(found, "a.whl", "aarch64") == f"2.{minor}"


def test_rows_cover_what_is_promised():
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert {row.python for row in ROWS} == set(PYTHONS)
    assert set(re.findall(r"Python :: (\d\.\d+)", text)) == set(PYTHONS)
    needs = re.findall(r'^    "([a-z0-9]+)>=([\d.]+)[",]', text.partition("[project.opt")[0], re.M)
    oldest = dict(pin.split("==") for pin in ROWS[0].pins)
    assert {name for name, _ in needs} == set(oldest)
    for name, version in needs:
        assert f"{oldest[name]}.".startswith(f"{version}."), name


def test_a_report_of_pytest_is_counted(tmp_path):
    path = tmp_path / "pytest.xml"
    path.write_text(
        """<testsuites><testsuite><testcase classname="tests.a" name="one"/>
        <testcase classname="tests.a" name="two"><skipped message="no GPU"/></testcase>
        <testcase classname="tests.b" name="three"><skipped message="no GPU"/></testcase>
        <testcase classname="tests.b" name="four"><failure message="1 != 2"/></testcase>
        <testcase classname="" name="tests.c"><error message="cannot be read"/></testcase>
        </testsuite></testsuites>"""
    )
    found = read_report(path)
    assert found.counts == {"passed": 1, "skipped": 2, "failed": 2}
    assert found.skipped == {"no GPU": 2}
    assert found.failed == ["tests.b::four", "::tests.c"]
    assert not found.passed
    assert not Tally().passed
    assert Tally({"passed": 1}).passed


def test_a_change_is_noticed(tmp_path, monkeypatch):
    monkeypatch.setattr(environments, "ROOT", tmp_path)
    (tmp_path / "a").write_text("1")
    before = fingerprint(["a", "b"])
    assert fingerprint(["b", "a"]) == before
    (tmp_path / "b").write_text("1")
    assert fingerprint(["a", "b"]) != before


def test_the_page(tmp_path):
    records, page = tmp_path / "results", tmp_path / "matrix.md"
    tests = Tally({"passed": 6800, "skipped": 3}, {"no a | b": 1, "no GPU": 2})
    versions = {"python": "3.13.0", "torch": "2.13.0"}
    keep(Outcome("newest", 4, "s", "abc", versions, tests), records / "newest.json")
    keep(Outcome("oldest", 0, "s", "abc", trouble="no Python 3.10 here"), records / "oldest.json")
    Wheel("3.13", "aarch64", "a.whl", 912_345, "2.17", "s", "abc", "not run").keep(tmp_path)
    Wheel("3.9", "aarch64", "b.whl", 1, "2.17", "s", "abc", "not run").keep(tmp_path)
    here = Wheel("3.13", "x86_64", "c.whl", 1_000_000, "2.28", "s", "abc", "here", tests)
    here.keep(tmp_path)
    assert Wheel.known(tmp_path, "3.13", "x86_64") == here
    assert Wheel.known(tmp_path, "3.12", "x86_64") is None
    write(tmp_path, page)
    text = page.read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    assert lines[1:3] == [
        "| oldest |  |  |  |  |  |  |  | no Python 3.10 here | `abc` |",
        "| newest | 3.13.0 |  |  | 2.13.0 |  |  |  | 6,800 passed, 3 skipped | `abc` |",
    ]
    assert lines[4:6] == ["| no GPU | newest 2 |", "| no a \\| b | newest 1 |"]
    assert lines[7:] == [
        "| 3.13 | x86_64 | 1.00 MB | 2.28 | here | 6,800 passed, 3 skipped | `abc` |",
        "| 3.9 | aarch64 | 0.00 MB | 2.17 | not run | - | `abc` |",
        "| 3.13 | aarch64 | 0.91 MB | 2.17 | not run | - | `abc` |",
    ]
    assert "TABLE" not in text


def test_failures_are_named_on_the_page(tmp_path):
    record = tmp_path / "results" / "newest.json"
    outcome = Outcome("newest", 4, "s", "abc", {}, Tally({"failed": 1}, {}, ["tests.a::one"]))
    keep(outcome, record)
    assert not outcome.passed
    assert json.loads(record.read_text())["tests"]["failed"] == ["tests.a::one"]
    write(tmp_path, tmp_path / "page.md")
    assert "| 1 failed `tests.a::one` |" in (tmp_path / "page.md").read_text(encoding="utf-8")


def test_a_run_goes_on_where_it_was_broken_off(tmp_path, monkeypatch, capsys):
    ran, broken = [], {"numpy1"}

    def run(row, folders, command, state):
        ran.append(row.name)
        if row.name in broken:
            return Outcome(row.name, 1, state, "abc", trouble="no network")
        return Outcome(row.name, 0, state, "abc", {}, Tally({"passed": 1}))

    monkeypatch.setattr(matrix, "run", run)
    monkeypatch.setattr(matrix, "tracked", lambda: ["pyproject.toml"])
    monkeypatch.setattr(matrix, "write", lambda work: None)

    def status(*arguments):
        ran.clear()
        monkeypatch.setattr("sys.argv", ["matrix", "--work", str(tmp_path), *arguments])
        with pytest.raises(SystemExit) as end:
            matrix.main()
        return end.value.code

    names = [row.name for row in ROWS]
    assert (status(), ran) == (1, names)
    assert "numpy1: no network, 0 s" in capsys.readouterr().out
    broken.clear()
    assert (status(), ran) == (0, ["numpy1"])
    assert "oldest: passed already" in capsys.readouterr().out
    assert (status(), ran) == (0, [])
    assert (status("--only", "oldest"), ran) == (0, ["oldest"])
    broken.add("oldest")
    assert (status("--only", "oldest", "--", "tests/crf"), ran) == (1, ["oldest"])
    assert (status(), ran) == (0, [])  # a part of the tests is not written down
    monkeypatch.setattr(matrix, "tracked", lambda: ["setup.py"])
    assert (status(), ran) == (1, names)


@pytest.mark.parametrize(
    ("root", "emulator", "told"),
    [
        (False, "qemu", "not run: another processor's"),
        (True, None, "not run: no qemu-user"),
        (True, "qemu", "not run: no such Python for arm64"),
    ],
)
def test_an_arm64_wheel_that_cannot_be_tried(tmp_path, monkeypatch, root, emulator, told):
    monkeypatch.setattr(trial.os, "uname", lambda: SimpleNamespace(machine="x86_64"))
    monkeypatch.setattr(trial.shutil, "which", lambda name: emulator)
    one = Wheel("3.12", "aarch64", "a.whl", 1, "2.17", "s", "abc")
    trial.tried(one, tmp_path, tmp_path, tmp_path if root else None)
    assert one.tried == told
    assert one.tests == Tally()
