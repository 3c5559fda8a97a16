"""What a release consists of fits together: extras, citation, Dockerfiles, workflows."""

import os
import re
from email.utils import parseaddr
from importlib.metadata import entry_points

import pytest
import yaml

import caffe_port
from tests.goldens_dir import ROOT
from tools import dockerfile
from tools.matrix.archives import TOP_FILES
from tools.matrix.environments import tracked

PYPROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
EXTRAS = set(re.findall(r"^(\w+) = \[", PYPROJECT.partition("[project.optional-")[2], re.M))
DOCKERFILES = ("docker/Dockerfile", "docker/Dockerfile.record")
WORKFLOWS = ("ci", "wheels")


def test_every_extra_that_is_named_exists():
    """In messages, documents and Dockerfiles: pip only warns of an extra that it does not know."""
    named = set()
    for folder, pattern in (("caffe_port", "*.py"), ("docs", "*.md"), ("docker", "Dockerfile*")):
        for path in (ROOT / folder).rglob(pattern):
            text = path.read_text(encoding="utf-8")
            assert "caffe_port[" not in text.replace("(caffe_port[", ""), path
            for words in re.findall(r"(?:caffe-port|/src)\[([\w,]+)\]", text):
                named |= set(words.split(","))
    assert named >= {"explore", "hub", "onnx", "triton", "video"}
    assert named <= EXTRAS


def test_the_citation_is_of_this_version():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert cited["version"] == caffe_port.__version__
    assert f'license = "{cited["license"]}"' in PYPROJECT
    titles = " ".join(work["title"] for work in cited["references"])
    for word in ("Caffe:", "DeepLab:", "Fully Connected CRFs with Gaussian", "Per-Pixel Feedback"):
        assert word in titles
    assert caffe_port.__version__ in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_the_address_of_the_repository_is_in_one_file():
    places = [
        name
        for name in tracked()
        if name.endswith((".py", ".toml", ".md", ".yml", ".cff"))
        and "example.org/caffe-port" in (ROOT / name).read_text(encoding="utf-8")
        and name != "tests/test_packaging.py"
    ]
    assert places == ["setup.py"]


def test_no_address_of_a_person_is_promised():
    for name in ("SECURITY.md", "CODE_OF_CONDUCT.md"):
        for word in (ROOT / name).read_text(encoding="utf-8").split():
            assert "@" not in parseaddr(word)[1]


@pytest.mark.parametrize("name", DOCKERFILES)
def test_a_dockerfile_copies_what_exists_and_starts_a_program(name, tmp_path, monkeypatch):
    """Everything but debootstrap and RUN, which need root and a network."""
    made = []
    monkeypatch.setattr(dockerfile, "debootstrap", lambda image, root: made.append(image))
    monkeypatch.setattr(dockerfile.Stage, "run", lambda stage, words, bind: made.append(words[-1]))
    (tmp_path / "image-build" / "opt" / "caffe-port").mkdir(parents=True)
    stage = dockerfile.built(ROOT / name, tmp_path / "image", {}, [])
    assert all(
        str(word).startswith(("debian:", "apt-get", "if ", "python3 -m venv")) for word in made
    )
    assert stage.folder == "/data"
    assert (stage.root / "data").is_dir()
    if name.endswith("record"):
        program, script = stage.entry
        copied = stage.root / script.lstrip("/")
        assert program == "python3"
        assert copied.read_bytes() == (ROOT / "tools" / "record_caffe.py").read_bytes()
    else:
        source = tmp_path / "image-build" / "src"
        kept = {str(path.relative_to(source)) for path in source.rglob("*") if path.is_file()}
        assert kept >= set(TOP_FILES) | {"caffe_port/py.typed", "ext/lattice.h"}
        assert not any(file.startswith(("tests/", "docs/", "examples/")) for file in kept)
        assert stage.entry == ["caffe-port"]
        assert entry_points(group="console_scripts", name="caffe-port")


def test_a_dockerfile_with_another_instruction_is_refused():
    with pytest.raises(ValueError, match="HEALTHCHECK is not one of ARG"):
        list(dockerfile.instructions("FROM debian:bookworm\nHEALTHCHECK NONE\n"))


def test_continued_lines_and_arguments():
    steps = list(dockerfile.instructions("# a\nRUN a \\\n    && b\n\nARG X=1\n"))
    assert steps == [("RUN", "a && b"), ("ARG", "X=1")]
    stage = dockerfile.Stage(ROOT)
    dockerfile.set_option(stage, "ARG", "X=1", {"X": "2"})
    dockerfile.set_option(stage, "ENV", "Y=1", {"Y": "2"})
    assert (stage.environ["X"], stage.environ["Y"]) == ("2", "1")


@pytest.mark.parametrize("name", WORKFLOWS)
def test_a_workflow_runs_what_exists(name):
    text = (ROOT / ".github" / "workflows" / f"{name}.yml").read_text(encoding="utf-8")
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    commands = [
        step["run"]
        for job in yaml.safe_load(text)["jobs"].values()
        for step in job["steps"]
        if "run" in step
    ]
    assert commands
    for command in commands:
        if command.startswith("make "):
            assert f"\n{command.split()[1]}:" in makefile
        if command.startswith(".ci/"):
            assert os.access(ROOT / command, os.X_OK)
    pythons = re.findall(r"Python :: (\d\.\d+)", PYPROJECT)
    if name == "ci":
        assert yaml.safe_load(text)["jobs"]["run"]["strategy"]["matrix"]["python"] == [
            pythons[0],
            pythons[-1],
        ]
    else:
        built = re.search(r'^build = "(.+)"$', PYPROJECT, re.M)
        assert built is not None
        assert built[1].split() == [f"cp{python.replace('.', '')}-*" for python in pythons]
