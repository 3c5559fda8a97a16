"""Reads, builds and runs the prototxts of public repositories, and counts what fails.

    python -m tools.coverage FOLDER                          # figures of tools/coverage/list.txt
    python -m tools.coverage FOLDER --protoc protoc --page docs/coverage.md

FOLDER holds the repositories that the list names, as clones, bare clones or plain folders named
owner/name, owner+name or name; one that is missing is reported. Nothing is downloaded and no code
of a repository is run. With --protoc, a net counts as one that its own Caffe reads if the
repository's own caffe.proto reads its text.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from dataclasses import asdict, fields
from pathlib import Path

import torch

from tools.coverage import page, trees
from tools.coverage.building import Outcome, try_net
from tools.coverage.kinds import NET, TEMPLATE, Schema, google_reads, kind, values

LIST = Path(__file__).with_name("list.txt")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tools.coverage", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("folder", type=Path)
    parser.add_argument("--list", type=Path, default=LIST)
    parser.add_argument("--protoc", help="the command of the protobuf compiler")
    parser.add_argument("--no-run", action="store_true", help="only read and build")
    parser.add_argument("--only", default="", help="repositories whose name contains this")
    parser.add_argument("--page", type=Path, help="Markdown to write")
    parser.add_argument("--json", type=Path, help="every file's outcome")
    parser.add_argument(
        "--again", type=Path, metavar="JSON",
        help="of an earlier run: only texts that failed there are tried again",
    )  # fmt: skip
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    survey = Survey(given.folder, trees.read_list(given.list), given.protoc, not given.no_run)
    if given.again:
        survey.keep(json.loads(given.again.read_text()))
    rows = survey.rows(given.only)
    if given.json:
        given.json.write_text(json.dumps(rows, indent=0) + "\n")
    text = page.page(rows, survey.missing, bool(given.protoc))
    if given.page:
        given.page.write_text(text)
    else:
        print(text)
    return 1 if survey.missing else 0


class Survey:
    """The files of the listed repositories; equal texts are tried once."""

    def __init__(
        self, folder: Path, listed: list[trees.Repository], protoc: str | None, run: bool
    ) -> None:
        self.folder, self.listed, self.protoc, self.run = folder, listed, protoc, run
        self.missing: list[str] = []
        self._tried: dict[str, Outcome] = {}
        self._schemas: dict[str, list[Schema]] = {}

    def keep(self, rows: list[dict[str, object]]) -> None:
        """Takes over the outcomes of an earlier run in which nothing failed."""
        names = [field.name for field in fields(Outcome)]
        for row in rows:
            if row["kind"] == NET and row["stage"] in ("built", "run") and not row["reason"]:
                outcome = Outcome(**{name: row[name] for name in names})  # type: ignore[arg-type]
                self._tried[str(row["digest"])] = outcome

    def rows(self, only: str = "") -> list[dict[str, object]]:
        """One row by file: repository, path, kind, refusal of its own Caffe, outcome."""
        found = []
        for repository in self.listed:
            if only not in repository.name:
                continue
            tree = self._tree(repository)
            if tree is None:
                continue
            print(repository.name, file=sys.stderr, flush=True)
            for path, raw in trees.files(tree, repository.commit):
                if path.endswith(".prototxt"):
                    found.append(self._row(repository, path, raw))
        return found

    def _tree(self, repository: trees.Repository) -> Path | None:
        tree = trees.find_tree(self.folder, repository.name)
        if tree is None:
            self.missing.append(f"{repository.name}: not in {self.folder}")
        elif trees.is_git(tree) and not trees.has_commit(tree, repository.commit):
            found = trees.head(tree)
            self.missing.append(f"{repository.name}: no commit {repository.commit}, but {found}")
            tree = None
        return tree

    def _row(self, repository: trees.Repository, path: str, raw: bytes) -> dict[str, object]:
        text = raw.decode("utf-8-sig", errors="surrogateescape")
        digest = hashlib.sha1(raw).hexdigest()
        what = kind(text)
        row: dict[str, object] = {
            "repository": repository.name, "group": repository.group, "path": path,
            "digest": digest, "kind": what,
        }  # fmt: skip
        if what not in (NET, TEMPLATE):
            return row
        if digest not in self._tried:
            given = values(text) if what == TEMPLATE else None
            self._tried[digest] = try_net(text, self.run, given)
        outcome = self._tried[digest]
        if what == NET and not outcome.stage and not google_reads(text):
            # a word in place of a number: protobuf refuses it in any Caffe
            row["kind"] = what = TEMPLATE
        if what == TEMPLATE:
            return row | {"refused": "", **asdict(outcome)}
        refusals = [schema.refusal(text) for schema in self._own(repository)]
        refused = min(refusals, key=len) if refusals else ""
        return row | {"refused": refused, **asdict(outcome)}

    def _own(self, repository: trees.Repository) -> list[Schema]:
        """Every caffe.proto of the repository that its nets are for."""
        if not self.protoc:
            return []
        name = repository.schema or repository.name
        if name not in self._schemas:
            self._schemas[name] = []
            owner = next((r for r in self.listed if r.name == name), None)
            tree = trees.find_tree(self.folder, name)
            if owner is None or tree is None:
                raise SystemExit(f"{repository.name}: its schema is {name}'s, which is not listed")
            for path, raw in trees.files(tree, owner.commit):
                if path.endswith("caffe.proto"):
                    self._schemas[name].append(Schema(raw, self.protoc))
        return self._schemas[name]


if __name__ == "__main__":
    sys.exit(main())
