"""Writes all prototxts into this folder or another: ``python prototxt/build.py [FOLDER]``."""

from __future__ import annotations

import sys
from pathlib import Path

import crfrnn
import deconvnet
import dilation
import enet
import fcn
import feedback
import hed
import msc
import pspnet
import resnet101
import segnet
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


def dilatednet_files(with_context: bool) -> dict[str, str]:
    used = [dilation.image(), *dilation.front_end()]
    if with_context:
        used += dilation.context()
    scores = "ct_final" if with_context else "fc-final"
    name = f"dilatednet_{'context' if with_context else 'frontend'}"
    return {"deploy.prototxt": prototxt([*used, dilation.probabilities(scores)], name=name)}


def hed_files() -> dict[str, str]:
    return {
        "train.prototxt": prototxt([hed.data(), *hed.network(True)], name="HED"),
        "deploy.prototxt": prototxt([hed.image(), *hed.network(False)], name="HED"),
        "solver.prototxt": solver(
            train_net="train.prototxt", base_lr=1e-6, lr_policy="step", gamma=0.1, iter_size=10,
            stepsize=10000, display=20, max_iter=30001, momentum=0.9, weight_decay=0.0002,
            snapshot=1000, snapshot_prefix="hed",
        ),
    }  # fmt: skip


def segnet_files(bayesian: bool, batch_size: int, max_iter: int) -> dict[str, str]:
    name = "bayesian_segnet" if bayesian else "segnet"
    train = [segnet.data(), *segnet.network(True, bayesian), *segnet.loss()]
    used = [segnet.image(batch_size), *segnet.network(False, bayesian), segnet.probabilities()]
    return {
        "train.prototxt": prototxt(train, name=name),
        "deploy.prototxt": prototxt(used, name=name),
        "solver.prototxt": solver(
            train_net="train.prototxt", base_lr=0.001, lr_policy="step", gamma=1,
            stepsize=10000000, display=20, **_DECAY, max_iter=max_iter, snapshot=1000,
            snapshot_prefix=name, solver_mode=GPU,
        ),
    }  # fmt: skip


def enet_files() -> dict[str, str]:
    def enet_solver(net: str) -> str:
        return solver(
            train_net=f"{net}.prototxt", base_lr=0.005, lr_policy="multistep", gamma=0.1,
            stepvalue=[18750, 37500, 56250], display=20, momentum=0.9, momentum2=0.999,
            max_iter=75000, weight_decay=0.0002, snapshot=10000, snapshot_prefix=f"enet_{net}",
            solver_mode=GPU, type="Adam",
        )  # fmt: skip

    return {
        "train_encoder.prototxt": prototxt(enet.encoder(), name="ENet"),
        "train.prototxt": prototxt(enet.network(True), name="ENet"),
        "deploy.prototxt": prototxt(enet.network(False), name="ENet"),
        "solver_encoder.prototxt": enet_solver("train_encoder"),
        "solver.prototxt": enet_solver("train"),
    }


def deconvnet_files() -> dict[str, str]:
    train = [deconvnet.data(), *deconvnet.network(True), deconvnet.loss()]
    used = [deconvnet.image(), *deconvnet.network(False)]
    return {
        "train.prototxt": prototxt(train, name="deconvnet_stage_1"),
        "deploy.prototxt": prototxt(used, name="deconvnet"),
        "solver.prototxt": solver(
            train_net="train.prototxt", base_lr=0.01, lr_policy="step", stepsize=9000, gamma=0.1,
            iter_size=8, display=1, max_iter=20000, **_DECAY, snapshot=500,
            snapshot_prefix="stage_1", solver_mode=GPU,
        ),
    }  # fmt: skip


def relatives() -> dict[str, dict[str, str]]:
    """The nets of others than DeepLab's and FCN's authors."""
    deploys = {
        "crfrnn": [crfrnn.image(), *crfrnn.network()],
        "pspnet50_ade20k": pspnet.pspnet(50, 150, 473),
        "pspnet101_voc2012": pspnet.pspnet(101, 21, 473),
        "pspnet101_cityscapes": pspnet.pspnet(101, 19, 713),
    }
    return {
        **{name: {"deploy.prototxt": prototxt(layers, name=name)}
           for name, layers in deploys.items()},
        "icnet": {
            "deploy.prototxt": prototxt(pspnet.icnet(merged=True), name="icnet"),
            "deploy_bn.prototxt": prototxt(pspnet.icnet(merged=False), name="icnet"),
        },
        "dilatednet_frontend": dilatednet_files(with_context=False),
        "dilatednet_context": dilatednet_files(with_context=True),
        "hed": hed_files(),
        "segnet": segnet_files(bayesian=False, batch_size=1, max_iter=40000),
        "bayesian_segnet": segnet_files(bayesian=True, batch_size=10, max_iter=60000),
        "enet": enet_files(),
        "deconvnet": deconvnet_files(),
    }  # fmt: skip


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
        **relatives(),
    }
    return {f"{folder}/{name}": text for folder, made in folders.items()
            for name, text in made.items()}  # fmt: skip


if __name__ == "__main__":
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent
    for path, text in files().items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
