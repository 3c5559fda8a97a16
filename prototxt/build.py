"""Writes all prototxts into this folder or another: ``python prototxt/build.py [FOLDER]``."""

from __future__ import annotations

import sys
from pathlib import Path

import fcn
import feedback
import msc
import resnet101
import ssd
import vgg16
from writing import Fields, Word, prototxt, solver, v1_prototxt

NAME = "${NET_ID}"
GPU = Word("GPU")
_TRAIN_NET = "${EXP}/config/${NET_ID}/train_${TRAIN_SET}.prototxt"
_PREFIX = "${EXP}/model/${NET_ID}/train"
_DECAY = {"momentum": 0.9, "weight_decay": 0.0005}


def step_solver(max_iter: int, prefix: str, base_lr: float, **more: int) -> str:
    return solver(
        train_net=_TRAIN_NET, lr_policy="step", gamma=0.1, stepsize=2000, base_lr=base_lr,
        display=10, max_iter=max_iter, **_DECAY, snapshot=2000, snapshot_prefix=prefix,
        solver_mode=GPU, **more,
    )  # fmt: skip


def step_solvers(**more: int) -> dict[str, str]:
    """The solver for train_aug, and solver2 for trainval_aug."""
    return {
        "solver.prototxt": step_solver(6000, _PREFIX, 0.001, **more),
        "solver2.prototxt": step_solver(8000, _PREFIX + "2", 0.001, **more),
    }


def poly_solver(base_lr: float, iter_size: int = 1) -> str:
    return solver(
        train_net=_TRAIN_NET, iter_size=iter_size, lr_policy="poly", power=0.9, base_lr=base_lr,
        average_loss=20, display=20, max_iter=20000, **_DECAY, snapshot=10000,
        snapshot_prefix=_PREFIX, solver_mode=GPU,
    )  # fmt: skip


def fcn_solver(base_lr: float, momentum: float, iter_size: int = 1) -> str:
    return solver(
        train_net="train.prototxt", display=20, average_loss=20, lr_policy="fixed",
        base_lr=base_lr, momentum=momentum, iter_size=iter_size, max_iter=100000,
        weight_decay=0.0005, snapshot=4000, snapshot_prefix="snapshot/train",
    )  # fmt: skip


def train_layers(head: list[Fields], batch_size: int) -> list[Fields]:
    return [vgg16.train_data(batch_size), *head, *vgg16.loss()]


def test_layers(head: list[Fields], *sizes: str) -> list[Fields]:
    return [vgg16.test_data(*sizes), *head, vgg16.enlarged(), *vgg16.written(*sizes)]


def deploy(layers: list[Fields]) -> str:
    # no Input layer, which DeepLab v2 does not have
    return prototxt(layers, name=NAME, input="data", input_shape={"dim": [1, 3, 513, 513]})


def largefov_v1() -> dict[str, str]:
    train, used = train_layers(vgg16.large_fov(True), 30), vgg16.large_fov(False)
    solvers = step_solvers()
    return {
        "train.prototxt": prototxt(train, name=NAME),
        "test.prototxt": prototxt(test_layers(used, "data_dim"), name=NAME),
        "deploy.prototxt": deploy([*used, vgg16.enlarged()]),
        "train_hole.prototxt": v1_prototxt(train, NAME),
        "test_hole.prototxt": v1_prototxt(test_layers(used), NAME),
        **solvers,
        **feedback.recipes("step", solvers["solver.prototxt"], vgg16.SCORED),
    }


def msc_largefov() -> dict[str, str]:
    train = [vgg16.train_data(30), *msc.network(True), *vgg16.loss(msc.FUSED)]
    used = msc.network(False)

    def test(*sizes: str) -> list[Fields]:
        return [vgg16.test_data(*sizes), *used, *vgg16.written(*sizes, scores=msc.FUSED)]

    return {
        "train.prototxt": prototxt(train, name=NAME),
        "test.prototxt": prototxt(test("data_dim"), name=NAME),
        "deploy.prototxt": deploy(used),
        "train_hole.prototxt": v1_prototxt(train, NAME),
        "test_hole.prototxt": v1_prototxt(test(), NAME),
        **step_solvers(average_loss=10),
    }


def vgg16_aspp(dilations: tuple[int, ...]) -> dict[str, str]:
    return vgg16_v2(vgg16.aspp(True, dilations), vgg16.aspp(False, dilations))


def vgg16_v2(learned: list[Fields], used: list[Fields]) -> dict[str, str]:
    return {
        "train.prototxt": prototxt(train_layers(learned, 10), name=NAME),
        "test.prototxt": prototxt(test_layers(used, "data_dim"), name=NAME),
        "deploy.prototxt": deploy([*used, vgg16.enlarged()]),
        "solver.prototxt": poly_solver(0.001),
    }


def resnet101_v2(net: resnet101.ResNet101) -> dict[str, str]:
    train = [resnet101.data(True), *net.network(True), *net.losses()]
    used = [*net.network(False), net.enlarged()]
    test = [resnet101.data(False), *used, *resnet101.accuracies()]
    return {
        "train.prototxt": prototxt(train, name=NAME),
        "test.prototxt": prototxt(test, name=NAME),
        "deploy.prototxt": deploy(used),
        "solver.prototxt": poly_solver(0.00025, iter_size=10),
    }


def resnet101_best() -> dict[str, str]:
    net = resnet101.ResNet101(resnet101.ASPP)
    made = resnet101_v2(net)
    # not published: LargeFOV's steps at this net's rate and batch
    step = step_solver(6000, _PREFIX, 0.00025, iter_size=10)
    return {
        **made,
        **feedback.recipes("poly", made["solver.prototxt"], net.scored),
        **feedback.recipes("step", step, net.scored),
    }


def fcn_files(kind: str, solver_text: str) -> dict[str, str]:
    layers = fcn.net(kind)
    train = [fcn.data(), *layers, fcn.loss(normalize=kind == "alexnet")]
    return {
        "train.prototxt": prototxt(train, name=f"fcn_{kind}"),
        "deploy.prototxt": prototxt([fcn.image(), *layers], name=f"fcn_{kind}"),
        "solver.prototxt": solver_text,
    }


def files() -> dict[str, str]:
    """Every file's text by its path in this folder."""
    folders = {
        "deeplab_v1_largefov": largefov_v1(),
        "deeplab_v1_msc_largefov": msc_largefov(),
        "deeplab_v2_vgg16_largefov": {
            **vgg16_v2(vgg16.large_fov(True), vgg16.large_fov(False)),
            **feedback.recipes("poly", poly_solver(0.001), vgg16.SCORED),
        },
        "deeplab_v2_vgg16_aspp_s": vgg16_aspp(vgg16.ASPP_S),
        "deeplab_v2_vgg16_aspp": vgg16_aspp(vgg16.ASPP_L),
        "deeplab_v2_resnet101_msc_aspp": resnet101_best(),
        **{
            f"deeplab_v2_resnet101{suffix}": resnet101_v2(net)
            for suffix, net in resnet101.OTHERS.items()
        },
        "fcn_alexnet": fcn_files("alexnet", fcn_solver(1e-4, 0.9, iter_size=20)),
        "fcn_32s": fcn_files("32s", fcn_solver(1e-10, 0.99)),
        "fcn_16s": fcn_files("16s", fcn_solver(1e-12, 0.99)),
        "fcn_8s": fcn_files("8s", fcn_solver(1e-14, 0.99)),
        "ssd300_vgg16": ssd.ssd300_vgg16(),
        "mobilenet_ssd": ssd.mobilenet_ssd(),
    }
    return {f"{folder}/{name}": text for folder, made in folders.items()
            for name, text in made.items()}  # fmt: skip


if __name__ == "__main__":
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent
    for path, text in files().items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
