"""What wheels are compared with, how rows of tests are run, and the page of them; no network."""

import io
import os
import platform
import re
import tarfile
import zipfile
from types import SimpleNamespace

import pytest

from tests.goldens_dir import ROOT
from tools.matrix import environments, outcomes, processors, trial
from tools.matrix.archives import check_sdist, check_wheel, sources
from tools.matrix.building import PYTHONS, Wheel, glibc_of
from tools.matrix.environments import ROWS, Tally, fingerprint, read_report
from tools.matrix.outcomes import PAGE, Outcome, keep, read, run_all
from tools.matrix.page import CHOSEN, write

TRACKED = (
    "LICENSE", "MANIFEST.in", "README.md", "pyproject.toml", "setup.py", "ext/lattice.cpp",
    "caffe_port/__init__.py", "caffe_port/cli.py", "caffe_port/py.typed",
    "prototxt/net/train.prototxt", "prototxt/build.py", "tests/test_net.py", "docs/a.md",
)  # fmt: skip
INFO = "caffe_port-1.0.0rc1.dist-info"
FILES = {
    "caffe_port/__init__.py": "", "caffe_port/cli.py": "", "caffe_port/py.typed": "",
    "caffe_port/prototxt/net/train.prototxt": "",
    "caffe_port/crf/_lattice.cpython-312-aarch64-linux-gnu.so": "",
    f"{INFO}/METADATA": "", f"{INFO}/RECORD": "", f"{INFO}/top_level.txt": "",
    f"{INFO}/licenses/LICENSE": "", f"{INFO}/WHEEL": "Tag: cp312-cp312-manylinux_2_28_aarch64\n",
    f"{INFO}/entry_points.txt": "[console_scripts]\ncaffe-port = caffe_port.cli:main\n",
}  # fmt: skip


def wheel(folder, **changes):
    path = folder / "caffe_port-1.0.0rc1-cp312-cp312-manylinux_2_28_aarch64.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in {**FILES, **changes}.items():
            if text is not None:
                archive.writestr(name, text)
    return path


def sdist(folder, names):
    path = folder / "caffe_port-1.0.0rc1.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for name in names:
            archive.addfile(tarfile.TarInfo(f"caffe_port-1.0.0rc1/{name}"), io.BytesIO())
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
def test_a_wrong_wheel(tmp_path, changes, told):
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
    (explore,) = re.findall(r"^explore = (.*)$", text, re.M)
    needs += re.findall(r'"([a-z]+)>=([\d.]+)"', explore)
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


def lines_of(page):
    return [line for line in page.read_text(encoding="utf-8").splitlines() if line[:2] == "| "]


def test_the_page(tmp_path):
    records, page = tmp_path / "matrix.json", tmp_path / "matrix.md"
    tests = Tally({"passed": 6800, "skipped": 3}, {"no a | b": 1, "no GPU": 2})
    versions = {"python": "3.13.0", "torch": "2.13.0"}
    keep("environments", "newest", Outcome("s", "abc", "a PC", versions, tests), records)
    failed = Outcome("s", "abc", "a PC", trouble="no Python 3.10 here")
    keep("environments", "oldest", failed, records)
    keep("environments", "no row any more", failed, records)
    for arch, python in (("aarch64", "3.13"), ("aarch64", "3.9")):
        wheel = Wheel(python, arch, "a.whl", 912_345, "2.17", "s", "abc", "not run")
        keep("wheels", wheel.name, wheel, records)
    here = Wheel("3.13", "x86_64", "c.whl", 1_000_000, "2.28", "s", "abc", "here", tests)
    keep("wheels", here.name, here, records)
    assert Wheel.known("3.13", "x86_64", records) == here
    assert Wheel.known("3.12", "x86_64", records) is None
    write(records, page)
    lines = lines_of(page)
    assert lines[1:3] == [
        "| oldest |  |  |  |  |  |  |  | no Python 3.10 here | `abc` |",
        "| newest | 3.13.0 |  |  | 2.13.0 |  |  |  | 6,800 passed, 3 skipped | `abc` |",
    ]
    assert lines[4:6] == ["| no GPU | newest 2 |", "| no a \\| b | newest 1 |"]
    assert lines[7:] == [
        "| 3.13 | x86_64 | 1.00 MB | 2.28 | here | 6,800 passed, 3 skipped | `abc` |",
        "| 3.9 | aarch64 | 0.91 MB | 2.17 | not run | - | `abc` |",
        "| 3.13 | aarch64 | 0.91 MB | 2.17 | not run | - | `abc` |",
    ]
    text = page.read_text(encoding="utf-8")
    assert "The machine: a PC." in text
    assert "TABLE" not in text


def test_each_processor_has_a_table_of_its_settings(tmp_path):
    records, page = tmp_path / "matrix.json", tmp_path / "matrix.md"
    chosen = {"torch": "AVX2", "oneDNN": "off", "CRF": "avx2", "threads": "2"}
    passed, failed = Tally({"passed": 5}), Tally({"failed": 1}, {}, ["a::b"])
    for setting, machine, tests in (
        ("best", "B, 2 cores", passed),
        ("lowest", "B, 2 cores", failed),
        ("best", "A, 8 cores", passed),
    ):
        outcome = Outcome("s", "abc", machine, chosen, tests)
        keep(processors.KIND, f"{setting} on {machine}", outcome, records)
    write(records, page)
    text = page.read_text(encoding="utf-8")
    assert text.index("A, 8 cores:\n\n| setting |") < text.index("B, 2 cores:\n\n| setting |")
    assert [line for line in lines_of(page) if "AVX2" in line] == [
        "| best | AVX2 | off | avx2 | 2 | 5 passed | `abc` |",
        "| lowest | AVX2 | off | avx2 | 2 | 1 failed `a::b` | `abc` |",
        "| best | AVX2 | off | avx2 | 2 | 5 passed | `abc` |",
    ]


def test_the_page_of_this_project_is_made_of_its_records(tmp_path):
    write(page=tmp_path / "matrix.md")
    assert (tmp_path / "matrix.md").read_text(encoding="utf-8") == PAGE.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("lowest", {"torch": "DEFAULT", "oneDNN": "SSE4.1", "CRF": "portable", "threads": "1"}),
        ("lowest-without-oneDNN", {"torch": "DEFAULT", "oneDNN": "off", "threads": "2"}),
    ],
)
@pytest.mark.skipif(platform.machine() != "x86_64", reason="names of x86-64's instruction sets")
def test_a_setting_chooses_the_libraries_kernels(name, wanted):
    setting = next(setting for setting in processors.SETTINGS if setting.name == name)
    found = processors.chosen({**os.environ, **setting.environ})
    assert set(found) == set(CHOSEN)
    assert {key: found[key] for key in wanted} == wanted


def test_settings_that_a_processor_does_not_have_are_left_out(tmp_path, monkeypatch):
    info, ran = tmp_path / "cpuinfo", []
    info.write_text("model name\t: Old\ncpu family\t: 6\nmodel\t\t: 42\nflags\t\t: sse4_1 avx\n\n")
    monkeypatch.setattr(processors, "_CPUINFO", info)
    monkeypatch.setattr(processors.os, "cpu_count", lambda: 4)
    assert processors.processor() == ("Old, family 6, model 42, 4 cores", {"sse4_1", "avx"})
    monkeypatch.setattr(processors, "write", lambda: None)

    def run_all(kind, rows, run, **options):
        ran.extend(row.name for row in rows)
        return True

    monkeypatch.setattr(processors, "run_all", run_all)
    monkeypatch.setattr("sys.argv", ["processors"])
    with pytest.raises(SystemExit) as end:
        processors.main()
    assert end.value.code == 0
    assert "lowest" in ran
    assert "best" in ran
    assert not [name for name in ran if name.startswith("avx2")]


def test_failures_are_named_on_the_page(tmp_path):
    records, page = tmp_path / "matrix.json", tmp_path / "page.md"
    outcome = Outcome("s", "abc", "a PC", {}, Tally({"failed": 1}, {}, ["tests.a::one"]))
    assert not outcome.passed
    keep("environments", "newest", outcome, records)
    assert read(records)["environments"]["newest"]["tests"]["failed"] == ["tests.a::one"]
    write(records, page)
    assert "| 1 failed `tests.a::one` |" in page.read_text(encoding="utf-8")


def test_an_interrupted_run_resumes(tmp_path, monkeypatch, capsys):
    ran, broken, files = [], {"numpy1"}, ["pyproject.toml"]
    records = tmp_path / "matrix.json"
    monkeypatch.setattr(outcomes, "tracked", lambda: [*files, "docs/matrix.md", "docs/matrix.json"])

    def run(row):
        ran.append(row.name)
        outcome = outcomes.new_outcome("a PC")
        if row.name in broken:
            outcome.trouble = "no network"
        outcome.tests = Tally({"passed": 1})
        return outcome

    def passed(**options):
        ran.clear()
        return run_all("environments", ROWS, run, path=records, **options)

    names = [row.name for row in ROWS]
    assert (passed(), ran) == (False, names)
    assert "numpy1: no network, 0 s" in capsys.readouterr().out
    broken.clear()
    assert (passed(), ran) == (True, ["numpy1"])
    assert "oldest: passed already" in capsys.readouterr().out
    assert (passed(), ran) == (True, [])
    assert (passed(only=["oldest"]), ran) == (True, ["oldest"])
    broken.add("oldest")
    assert (passed(only=["oldest"], part=True), ran) == (False, ["oldest"])
    assert (passed(), ran) == (True, [])  # a part of the tests is not written down
    assert (passed(suffix=" on another"), ran) == (False, names)
    files[0] = "setup.py"
    broken.clear()
    assert (passed(), ran) == (True, names)


@pytest.mark.parametrize(
    ("root", "emulator", "told"),
    [
        (False, "qemu", "not run: another processor's"),
        (True, None, "not run: no qemu-user"),
        (True, "qemu", "not run: no such Python for arm64"),
    ],
)
def test_an_arm64_wheel_that_cannot_be_tested(tmp_path, monkeypatch, root, emulator, told):
    monkeypatch.setattr(trial.os, "uname", lambda: SimpleNamespace(machine="x86_64"))
    monkeypatch.setattr(trial.shutil, "which", lambda name: emulator)
    one = Wheel("3.12", "aarch64", "a.whl", 1, "2.17", "s", "abc")
    trial.tried(one, tmp_path, tmp_path, tmp_path if root else None)
    assert one.tried == told
    assert one.tests == Tally()
