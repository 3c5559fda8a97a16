"""Runs the notebooks of examples/notebooks/ and stores their outputs.

    python -m tools.notebooks            # all of them
    python -m tools.notebooks NOTEBOOK.ipynb

Stored are outputs alone: no times, no versions of the kernel, so that a run that computes the same
changes nothing. tests/docs/test_notebooks.py compares the stored texts with those of a run.
"""

from __future__ import annotations

import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "examples" / "notebooks").glob("*.ipynb"))
_KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}


def read(path: Path) -> NotebookNode:
    """A notebook of the format's version 4."""
    return nbformat.read(path, as_version=4)


def executed(path: Path, *, timeout: float | None = None) -> NotebookNode:
    """The notebook with the outputs of a run in its folder; the file stays as it is.

    Args:
        path: of the notebook.
        timeout: seconds for each cell.
    Raises:
        CellExecutionError: a cell fails.
    """
    where = {"metadata": {"path": path.parent}}
    client = NotebookClient(read(path), timeout=timeout, kernel_name="python3", resources=where)
    return cleaned(client.execute())


def cleaned(notebook: NotebookNode) -> NotebookNode:
    """Without what differs from run to run: times of cells, versions, addresses in memory."""
    notebook.metadata = nbformat.from_dict({"kernelspec": _KERNEL})
    for cell in notebook.cells:
        cell.metadata = nbformat.from_dict({})
        if cell.cell_type == "code":
            cell.outputs = _merged([_cleaned(output) for output in cell.outputs])
    return notebook


def _merged(outputs: list[NotebookNode]) -> list[NotebookNode]:
    """Text that a cell printed is one output; a kernel sends it in parts of any size."""
    merged: list[NotebookNode] = []
    for output in outputs:
        before = merged[-1] if merged else {}
        if output.output_type == "stream" and before.get("name") == output.name:
            before["text"] += output.text
        else:
            merged.append(output)
    return merged


def _cleaned(output: NotebookNode) -> NotebookNode:
    """Also with one kind of image only: Pillow gives the same one as PNG and as JPEG."""
    output.pop("transient", None)
    data = output.get("data", {})
    kinds = [kind for kind in data if kind.startswith("image/")]
    for kind in sorted(kinds, key=lambda kind: len(data[kind]))[1:]:
        del data[kind]
    if "metadata" in output:
        output.metadata = nbformat.from_dict({})
    return output


def texts(notebook: NotebookNode) -> list[str]:
    """The printed text and the values of each code cell; images and pages are left out."""
    return [
        "".join(_text(output) for output in cell.outputs)
        for cell in notebook.cells
        if cell.cell_type == "code"
    ]


def _text(output: NotebookNode) -> str:
    if output.output_type == "stream":
        return str(output.text)
    kinds = set(output.get("data", {})) - {"text/plain"}
    return "" if kinds else f"{output.data['text/plain']}\n"


def main() -> None:
    for path in [Path(name) for name in sys.argv[1:]] or NOTEBOOKS:
        nbformat.write(executed(path), path)
        print(f"{path.name}: {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
