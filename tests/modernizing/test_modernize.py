"""Scripts of Python 2 and of old libraries, rule by rule, and as a command."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from caffe_port.cli import main
from caffe_port.errors import FormatError, UsageError
from caffe_port.modernizing import modernize, modernize_notebook, python2

pytest.importorskip("fissix")

NP, CPICKLE = "import numpy as np\n", "import cPickle\n"
LIBRARIES = [
    (NP + "a = np.zeros(3, np.int)", NP + "a = np.zeros(3, int)"),
    (NP + "b = x.astype(np.bool), np.float(y)", NP + "b = x.astype(bool), float(y)"),
    ("import numpy\nc = numpy.float_, numpy.Inf", "import numpy\nc = numpy.float64, numpy.inf"),
    (NP + "d = np.int32, np.bool_, other.int", NP + "d = np.int32, np.bool_, other.int"),
    (NP + "e = np.asscalar(a + b)", NP + "e = (a + b).item()"),
    (NP + "f = np.fromstring(s, np.uint8)", NP + "f = np.frombuffer(s, np.uint8).copy()"),
    (NP + "g = np.fromstring(s, sep=' ')", NP + "g = np.fromstring(s, sep=' ')"),
    ("h = (a + b).tostring()", "h = (a + b).tobytes()"),
    ("import yaml\nc = yaml.load((f))", "import yaml\nc = yaml.safe_load((f))"),
    ("import yaml\nc = yaml.load(f, Loader=L)", "import yaml\nc = yaml.load(f, Loader=L)"),
    ("from yaml import dump, load", "from yaml import dump, safe_load as load"),
    ("import h5py\nf = h5py.File((n))", "import h5py\nf = h5py.File((n), 'a')"),
    ("import h5py\nv = f['data'].value", "import h5py\nv = f['data'][()]"),
    ("v = f['data'].value", "v = f['data'].value"),
    ("import time\nt = time.clock()", "import time\nt = time.perf_counter()"),
    ("from PIL import Image\nr = Image.ANTIALIAS", "from PIL import Image\nr = Image.LANCZOS"),
    ("import Image", "from PIL import Image"),
    (
        "from collections import Mapping, deque",
        "from collections.abc import Mapping\nfrom collections import deque",
    ),
    (
        "from scipy.misc import imread, imresize as r",
        "from caffe_port.pycaffe.scipy_misc import imread, imresize as r",
    ),
    (
        "if x:\n    from scipy.misc import imread, logsumexp",
        "if x:\n    from caffe_port.pycaffe.scipy_misc import imread\n"
        "    from scipy.special import logsumexp",
    ),
    ("from scipy import misc", "from caffe_port.pycaffe import scipy_misc as misc"),
    (
        "import scipy.misc\na = scipy.misc.imresize(b, 0.5), scipy.misc.imread(c)",
        "import scipy\nfrom caffe_port.pycaffe import scipy_misc\n"
        "a = scipy_misc.imresize(b, 0.5), scipy_misc.imread(c)",
    ),
    (
        "import collections\nx = isinstance(y, collections.Mapping)",
        "import collections\nimport collections.abc\nx = isinstance(y, collections.abc.Mapping)",
    ),
]
PYTHON2 = [
    ("print 'a', 1", "print('a', 1)"),
    ("print >>f, x", "print(x, file=f)"),
    (
        "from cStringIO import StringIO\nf = StringIO()\nimage.save(f, 'png')",
        "from io import StringIO, BytesIO\nf = BytesIO()\nimage.save(f, 'png')",
    ),
    (
        "import StringIO\nimage = caffe.io.load_image(StringIO.StringIO(data))",
        "import io\nimage = caffe.io.load_image(io.BytesIO(data))",
    ),
    (
        "from StringIO import StringIO\nf = StringIO()\nf.write('text')",
        "from io import StringIO\nf = StringIO()\nf.write('text')",
    ),
    ("print np.sort(x), T.sort(y.z, axis=2)", "print(np.sort(x), T.sort(y.z, axis=2))"),
    ("for k in d.iterkeys(): print k", "for k in d.keys(): print(k)"),
    ("x = map(str, xrange(3))", "x = list(map(str, range(3)))"),
    ("n = a[len(a) / 2]; print n", "n = a[len(a) // 2]; print(n)"),
    ("n = a[(b + c) / (2 * d)]; print n", "n = a[(b + c) // (2 * d)]; print(n)"),
    ("for i in xrange((a + 1) / 2): pass", "for i in range((a + 1) // 2): pass"),
    ("n = 7 / 2; print n", "n = 7 // 2; print(n)"),
    ("n = f(a / 2)[0]; print n", "n = f(a / 2)[0]; print(n)"),
    (
        "from __future__ import division\nfor i in xrange(a[b / 2]): n = 7 / 2",
        "from __future__ import division\nfor i in range(a[b / 2]): n = 7 / 2",
    ),
    (
        CPICKLE + "x = cPickle.load(open(p))",
        "import pickle\nx = pickle.load(open(p, 'rb'), encoding='latin1')",
    ),
    (
        CPICKLE + "with open(p, 'r') as f:\n    x = cPickle.load(f)",
        "import pickle\nwith open(p, 'rb') as f:\n    x = pickle.load(f, encoding='latin1')",
    ),
    (
        CPICKLE + "f = open(p, 'w')\ncPickle.dump(x, f)",
        "import pickle\nf = open(p, 'wb')\npickle.dump(x, f)",
    ),
]


@pytest.mark.parametrize(("old", "new"), LIBRARIES + PYTHON2)
def test_each_rule(old: str, new: str) -> None:
    result = modernize(old + "\n", "old.py")
    assert result.text == new + "\n"
    assert modernize(result.text, "old.py").text == result.text


@pytest.mark.parametrize(
    "text",
    [
        "print('a')\nx = {k: v for k, v in d.items()}\ny = map(str, a)\n",
        "try:\n    import cPickle as pickle\nexcept ImportError:\n    import pickle\n",
        "try:\n    xrange = range\nfinally:\n    pass\nfor i in xrange(3): print(i, file=f)\n",
        "x = 1 / 2\n",
        "",
    ],
)
def test_python3_that_needs_nothing_stays_as_it_is(text: str) -> None:
    assert modernize(text, "new.py").text == text


def test_divisions_that_only_the_author_can_check_are_listed() -> None:
    notes = modernize("print a / b\nx = c / (2.0 * d) + e / float(f)\n", "old.py").notes
    assert notes == ("line 1: `a / b` was // in Python 2 if both are whole",)


def test_comments_line_ends_and_tabs() -> None:
    text = "# \xe9\r\nif x:\r\n\tprint 1  # one\r\n        print 2\r\n"
    new = modernize(text, "old.py").text
    assert new == "# \xe9\r\nif x:\r\n        print(1)  # one\r\n        print(2)\r\n"
    ast.parse(new)


MAIN = "if __name__ == '__main__':\n    main()\n"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("import near\n", "from . import near\n"),
        ("from near import x\n", "from .near import x\n"),
        ("import near\n" + MAIN,
         "if __package__:\n    from . import near\nelse:\n    import near\n" + MAIN),
        ("#!/usr/bin/env python\nfrom near import x\n",
         "#!/usr/bin/env python\nif __package__:\n    from .near import x\n"
         "else:\n    from near import x\n"),
        ("if a:\n    from near import (x,\n        y)\n" + MAIN,
         "if a:\n    if __package__:\n        from .near import (x,\n            y)\n"
         "    else:\n        from near import (x,\n            y)\n" + MAIN),
        ("import os, far\n" + MAIN, "import os, far\n" + MAIN),
        ("from __future__ import absolute_import\nimport near\n" + MAIN,
         "from __future__ import absolute_import\nimport near\n" + MAIN),
    ],
)  # fmt: skip
def test_modules_next_to_a_script_in_a_package(tmp_path: Path, old: str, new: str) -> None:
    """Python 2 found them from the package and from a script; a relative import only from one."""
    for name in ("__init__.py", "near.py", "script.py"):
        (tmp_path / name).touch()
    name = str(tmp_path / "script.py")
    made = modernize(old + "print 1\n", name).text
    assert made == new + "print(1)\n"
    future = "from __future__ import division\n"  # keeps a script one of Python 2
    once = modernize(future + old, name).text
    assert modernize(once, name).text == once


@pytest.mark.parametrize("command", ["pack/script.py", "-mpack.script"])
def test_such_a_script_runs_either_way(tmp_path: Path, command: str) -> None:
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack" / "__init__.py").touch()
    (tmp_path / "pack" / "near.py").write_text("x = 3\n")
    script = tmp_path / "pack" / "script.py"
    script.write_text("from near import x\nif __name__ == '__main__':\n    print x\n")
    script.write_text(modernize(script.read_text(), str(script)).text)
    line = [sys.executable, command]
    run = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert (run.stdout, run.stderr) == ("3\n", "")


def test_files_that_are_not_python() -> None:
    for text, line in (("print 1\ndef 3():\n", 2), ("print 1\nfor (\n", 3)):
        with pytest.raises(FormatError, match=rf"old\.py: line {line}: neither Python 2 nor 3"):
            modernize(text, "old.py")


def test_without_fissix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fissix.refactor", None)
    python2._tool.cache_clear()
    assert modernize("import yaml\nyaml.load(f)\n", "a.py").text.endswith("safe_load(f)\n")
    with pytest.raises(UsageError, match="pip install fissix"):
        modernize("print 1\n", "a.py")


def notebook(*cells: str) -> str:
    made = [{"cell_type": "code", "source": cell.splitlines(keepends=True)} for cell in cells]
    made.insert(1, {"cell_type": "markdown", "source": ["print 1"]})
    return json.dumps({"cells": made, "metadata": {}, "nbformat": 4}, indent=1)


def test_a_notebook() -> None:
    text = notebook(
        "import numpy as np\n%matplotlib inline",
        "if not x:\n    print 'no'\n    !./get.sh a b\ny = np.int(3)",
        "%%bash\nprint 1",
        "from math import pi\nz = reduce(f, a)\nnet.blobs?",
    )
    cells = json.loads(modernize_notebook(text, "a.ipynb").text)["cells"]
    found = ["".join(cell["source"]) for cell in cells]
    assert found[0] == "import numpy as np\nfrom functools import reduce\n%matplotlib inline"
    assert found[1] == "print 1"
    assert found[2] == "if not x:\n    print('no')\n    !./get.sh a b\ny = int(3)"
    assert found[3] == "%%bash\nprint 1"
    assert found[4] == "from math import pi\nz = reduce(f, a)\nnet.blobs?"


def test_lines_for_ipython_stay_as_they_are() -> None:
    text = notebook(
        "% matplotlib inline\nprint 1",
        "%%time\nprint 2",
        "if x:\n    !python a.py \\\n        --b=1 \\\n  --c\n    print 3",
        "y = (a\n     % b)\nprint 4",
    )
    cells = json.loads(modernize_notebook(text, "a.ipynb").text)["cells"]
    found = ["".join(cell["source"]) for cell in cells]
    del found[1]
    assert found == [
        "% matplotlib inline\nprint(1)",
        "%%time\nprint(2)",
        "if x:\n    !python a.py \\\n        --b=1 \\\n  --c\n    print(3)",
        "y = (a\n     % b)\nprint(4)",
    ]


def test_a_notebook_of_format_3() -> None:
    cell = {"cell_type": "code", "input": ["print 1"]}
    text = json.dumps({"worksheets": [{"cells": [cell]}], "metadata": {}, "nbformat": 3})
    new = json.loads(modernize_notebook(text, "a.ipynb").text)
    assert new["worksheets"][0]["cells"][0]["input"] == ["print(1)"]


def test_files_that_are_not_notebooks() -> None:
    for text in ("{", "[]", "{}", '{"cells": [{"cell_type": "code"}]}'):
        with pytest.raises(FormatError, match="not a Jupyter notebook"):
            modernize_notebook(text, "a.ipynb")


def run(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(main, ["modernize", *map(str, arguments)])
    return result.exit_code, result.output


def test_the_command_shows_a_diff_and_writes_on_request(tmp_path: Path) -> None:
    script = tmp_path / "a.py"
    script.write_text("#!/usr/bin/env python\nprint 1\n")
    script.chmod(0o755)
    (tmp_path / "same.py").write_text("x = 1\n")
    status, output = run(tmp_path)
    assert status == 0
    assert "-print 1\n+print(1)\n" in output
    assert "same.py" not in output
    assert script.read_text().endswith("print 1\n")
    assert run("--write", tmp_path) == (0, f"{script}: rewritten\n")
    assert script.read_text() == "#!/usr/bin/env python\nprint(1)\n"
    assert script.stat().st_mode & 0o777 == 0o755
    assert run(tmp_path) == (0, "")


def test_the_command_goes_through_all_files_and_names_the_bad_ones(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("for (\n")
    (tmp_path / "b.py").write_bytes(b"# \xe9\nprint 1\n")
    (tmp_path / "c.py").write_bytes(b"# -*- coding: latin-1 -*-\nprint '\xe9'\n")
    status, output = run("--write", tmp_path)
    assert status == 2
    assert "a.py" in output
    assert "b.py: its encoding" in output
    assert (tmp_path / "c.py").read_text() == "# -*- coding: utf-8 -*-\nprint('\xe9')\n"
