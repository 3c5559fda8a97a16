"""Commands that the documents name in text, tables and usage lines exist, with their options."""

from __future__ import annotations

import importlib.util
import re

import click
import pytest

from caffe_port.cli import main
from tests.docs.pages import blocks
from tests.docs.test_links import DOCUMENTS
from tests.goldens_dir import ROOT

MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
SKIPPED = {
    "CHANGELOG.md",
    "security.md",
}  # of the past; made by `make attacks`, which cuts commands


def codes(path):
    """All code of a document that may hold commands: inline code, and lines of sh blocks."""
    text = path.read_text(encoding="utf-8")
    for block in blocks(path):
        if block.language in {"sh", "text"}:
            yield from block.text.replace("\\\n", " ").splitlines()
    without = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    yield from (" ".join(code.split()) for code in re.findall(r"`([^`]+)`", without))


def options(name):
    """The options of a command of caffe-port, or None where there is no such command."""
    command = main.get_command(click.Context(main), name)
    if command is None:
        return None
    parameters = command.get_params(click.Context(command))
    return {word for each in parameters for word in [*each.opts, *each.secondary_opts]}


PAGES = [path for path in DOCUMENTS if path.name not in SKIPPED]


@pytest.mark.parametrize("path", PAGES, ids=[str(p.relative_to(ROOT)) for p in PAGES])
def test_commands_and_options_exist(path):
    wrong = []
    for code in codes(path):
        found = re.match(r"(?:\$ )?caffe-port (?P<name>[a-z][\w-]*)(?P<rest>.*)", code)
        if found and found["name"] != "--help":
            known = options(found["name"])
            used = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", found["rest"].partition(" #")[0]))
            if known is None:
                wrong.append(code)
            elif used - known - _inner(found["name"]):
                wrong.append(f"{code}: {sorted(used - known)}")
        for target in re.findall(r"^make ([a-z]+)\b", code):
            if f"\n{target}:" not in MAKEFILE:
                wrong.append(code)
        for module in re.findall(
            r"^python3? -m ((?:tools|tests|benchmarks|caffe_port)[\w.]*)", code
        ):
            if importlib.util.find_spec(module) is None:
                wrong.append(code)
        for subject in re.findall(r"^python -m benchmarks ([a-z]+)", code):
            if importlib.util.find_spec(f"benchmarks.{subject}") is None:
                wrong.append(code)
    assert wrong == []


def _inner(name):
    """The options of a group's own commands, such as those of labels."""
    command = main.get_command(click.Context(main), name)
    if not isinstance(command, click.Group):
        return set()
    context = click.Context(command)
    inner = [command.get_command(context, each) for each in command.list_commands(context)]
    return {
        word
        for each in inner
        if each is not None
        for parameter in each.get_params(click.Context(each))
        for word in [*parameter.opts, *parameter.secondary_opts]
    }
