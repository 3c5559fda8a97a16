"""The code blocks of the documentation run as shown."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from importlib.metadata import entry_points
from pathlib import Path

import click
import pytest

from caffe_port.cli import main
from caffe_port.proto import parse_net
from tests import preloaded
from tests.docs.pages import LANGUAGES, blocks, pages, script
from tests.goldens_dir import ROOT, SHAPES

PAGES = pages()
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_every_block_has_a_language(page):
    for block in blocks(page):
        assert block.language in LANGUAGES, f"{page.name}:{block.line}"


RUNNABLE = [page for page in PAGES if any(block.runs for block in blocks(page))]


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    """A folder with the commands that the pages call, started without importing torch again."""
    commands = entry_points(group="console_scripts")
    names = {command.name for command in commands if command.value.startswith("caffe_port.")}
    ours = {name: [str(Path(sys.executable).with_name(name))] for name in names}
    folder = tmp_path_factory.mktemp("programs")
    preloaded.write_commands(folder, {"python": [], "python3": [], **ours})
    return folder


@pytest.mark.parametrize("page", RUNNABLE, ids=[str(page.relative_to(ROOT)) for page in RUNNABLE])
def test_the_blocks_of_a_page_run_in_order(page, tmp_path, programs):
    shutil.copytree(SHAPES, tmp_path / "examples" / "shapes_voc")
    for name in ("prototxt", "tools", "tests"):
        (tmp_path / name).symlink_to(ROOT / name)
    path = os.pathsep.join([str(programs), str(Path(sys.executable).parent), os.environ["PATH"]])
    run = preloaded.run(
        [sys.executable, "-c", script(page)],
        cwd=tmp_path, env={**os.environ, "PATH": path, "MPLBACKEND": "Agg"},
    )  # fmt: skip
    assert run.returncode == 0, f"{run.stdout[-2000:]}\n{run.stderr[-4000:]}"


def commands():
    """The caffe-port lines of blocks that need more than a test has."""
    for page in PAGES:
        for block in blocks(page):
            if block.language == "sh" and block.title.startswith("needs "):
                for line in block.text.replace("\\\n", " ").splitlines():
                    if line.startswith("caffe-port "):
                        yield pytest.param(line, id=f"{page.name}:{block.line}")


@pytest.mark.parametrize("line", list(commands()))
def test_commands_that_are_not_run_have_existing_options(line):
    _, name, *arguments = shlex.split(line, comments=True)
    context = click.Context(main)
    command = main.get_command(context, name)
    assert command is not None, f"no command {name}"
    command.make_parser(click.Context(command)).parse_args(arguments)


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_prototxt_can_be_read(page):
    for block in blocks(page):
        if block.language == "prototxt":
            parse_net(block.text, path=f"{page.name}:{block.line}")
