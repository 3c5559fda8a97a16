"""DistributedDataParallel and FSDP around a net: two processes, each with half of the batch."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from tests import preloaded
from tests.goldens_dir import ROOT
from tests.torch_module.nets import losing

PROGRAM = """
import sys
import torch
from torch import distributed

from tests.torch_module.nets import losing

kind, store, rank, out = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
net, inputs = losing()
half = {name: data[rank : rank + 1] for name, data in inputs.items()}
whole = lambda grad: grad
if kind == "ddp":
    run = torch.nn.parallel.DistributedDataParallel(net)
elif kind == "fsdp":
    from torch.distributed.fsdp import FullyShardedDataParallel
    run = FullyShardedDataParallel(net, use_orig_params=True, device_id=torch.device("cpu"))
else:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard
    mesh = init_device_mesh("cpu", (2,))
    for layer in ("c1", "c2", "fc"):
        fully_shard(net.module(layer), mesh=mesh)
    run, whole = fully_shard(net, mesh=mesh), lambda grad: grad.full_tensor()
loss = run(half)["loss"]
loss.backward()
if kind == "fsdp":
    with FullyShardedDataParallel.summon_full_params(run, with_grads=True):
        grads = [blob.grad.clone() for blob in net.parameters()]
else:
    grads = [whole(blob.grad) for blob in net.parameters()]
torch.save({"loss": loss.detach(), "grads": grads}, out)
distributed.destroy_process_group()
"""


@pytest.mark.parametrize("kind", ["ddp", "fsdp", "fully_shard"])
def test_gradients_are_those_of_the_whole_batch(kind, tmp_path):
    processes = [
        preloaded.start(
            [sys.executable, "-c", PROGRAM, kind, str(tmp_path / "store"),
             str(rank), str(tmp_path / f"{rank}.pt")],
            cwd=ROOT, stderr=subprocess.PIPE,
        )
        for rank in range(2)
    ]  # fmt: skip
    wrong = [process.communicate()[1] for process in processes]
    assert [process.wait() for process in processes] == [0, 0], wrong
    net, inputs = losing()
    loss = net(inputs)["loss"]
    loss.backward()
    found = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    mean = (found[0]["loss"] + found[1]["loss"]) / 2
    torch.testing.assert_close(mean, loss.detach(), rtol=1e-6, atol=0)
    for rank in found:
        for mine, whole in zip(rank["grads"], net.parameters(), strict=True):
            torch.testing.assert_close(mine, whole.grad, rtol=1e-5, atol=1e-6)
