"""What the documents show works as shown."""

import re
import subprocess
import sys

from tests.goldens_dir import ROOT


def blocks(document: str, language: str) -> list[str]:
    text = (ROOT / document).read_text()
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def test_the_layer_of_ones_own_fork(tmp_path):
    (layer,) = blocks("docs/own_layer.md", "")
    (code,) = blocks("docs/own_layer.md", "python")
    inputs = 'input: "x" input_shape { dim: 2 dim: 3 }\n'
    (tmp_path / "net.prototxt").write_text(inputs + layer)
    (tmp_path / "offset.py").write_text(code)
    # a process of its own, because a registration lasts as long as the process
    script = (
        "import warnings, offset, torch, caffe_port as cp\n"
        "with warnings.catch_warnings(record=True) as caught:\n"
        "    warnings.simplefilter('always')\n"
        "    net = cp.load('net.prototxt')\n"
        "assert 'offset_param' in str(caught[0].message), caught\n"
        "assert torch.equal(net(torch.ones(2, 3))['y'], torch.full((2, 3), 3.5))\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
