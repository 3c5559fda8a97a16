"""The modules of other programs, with their published names and structure, at any width.

Facts of: kazuto1011/deeplab-pytorch libs/models/{resnet,deeplabv2,msc}.py; isht7/
pytorch-deeplab-resnet deeplab_resnet.py; pytorch/vision torchvision/models/{resnet,vgg}.py;
huggingface/pytorch-image-models timm/models/{resnet,vgg}.py.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

BLOCKS = (3, 4, 23, 3)
RATES = (6, 12, 18, 24)


def conv(inputs, outputs, kernel=1, stride=1, dilation=1):
    pad = dilation * (kernel - 1) // 2
    return nn.Conv2d(inputs, outputs, kernel, stride, pad, dilation, bias=False)


class Named(nn.Sequential):
    """A sequence with names."""

    def __init__(self, **modules: nn.Module) -> None:
        super().__init__()
        for name, module in modules.items():
            self.add_module(name, module)


def unit(relu=True, **options):
    convolution = conv(**options)
    norm = nn.BatchNorm2d(options["outputs"])
    return Named(conv=convolution, bn=norm, **({"relu": nn.ReLU()} if relu else {}))


class KazutoBlock(nn.Module):
    def __init__(self, inputs, outputs, stride, dilation, first):
        super().__init__()
        middle = outputs // 4
        self.reduce = unit(inputs=inputs, outputs=middle, stride=stride)
        self.conv3x3 = unit(inputs=middle, outputs=middle, kernel=3, dilation=dilation)
        self.increase = unit(relu=False, inputs=middle, outputs=outputs)
        self.shortcut = nn.Identity()
        if first:
            self.shortcut = unit(relu=False, inputs=inputs, outputs=outputs, stride=stride)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.increase(self.conv3x3(self.reduce(x))) + self.shortcut(x))


class Pyramid(nn.Module):
    """The sum of dilated convolutions; ``parts`` makes their container."""

    def forward(self, x: Tensor) -> Tensor:
        return sum(branch(x) for branch in self.branches())


class KazutoPyramid(Pyramid):
    def __init__(self, inputs, labels):
        super().__init__()
        for i, rate in enumerate(RATES):
            self.add_module(f"c{i}", nn.Conv2d(inputs, labels, 3, 1, rate, rate))

    def branches(self):
        return self.children()


def kazuto_base(width=64, labels=21):
    """DeepLabV2: stride 8."""
    stages, inputs = {}, width
    for i, count in enumerate(BLOCKS):
        outputs, stride, dilation = 4 * width * 2**i, (1, 2, 1, 1)[i], (1, 1, 2, 4)[i]
        blocks = {}
        for k in range(count):
            first = k == 0
            blocks[f"block{k + 1}"] = KazutoBlock(
                inputs, outputs, stride if first else 1, dilation, first
            )
            inputs = outputs
        stages[f"layer{i + 2}"] = Named(**blocks)
    stem = Named(
        conv1=unit(inputs=3, outputs=width, kernel=7, stride=2),
        pool=nn.MaxPool2d(3, 2, 1, ceil_mode=True),
    )
    return Named(layer1=stem, **stages, aspp=KazutoPyramid(inputs, labels))


class KazutoScales(nn.Module):
    """MSC, of which only the names matter here."""

    def __init__(self, width=64, labels=21):
        super().__init__()
        self.base = kazuto_base(width, labels)


class Bottleneck(nn.Module):
    """torchvision's and timm's names; ``caffe`` has the stride in the first convolution."""

    def __init__(self, inputs, middle, stride, dilation, first, caffe):
        super().__init__()
        self.conv1 = conv(inputs, middle, 1, stride if caffe else 1)
        self.bn1 = nn.BatchNorm2d(middle)
        self.conv2 = conv(middle, middle, 3, 1 if caffe else stride, dilation)
        self.bn2 = nn.BatchNorm2d(middle)
        self.conv3 = conv(middle, 4 * middle)
        self.bn3 = nn.BatchNorm2d(4 * middle)
        self.downsample = None
        if first:
            self.downsample = nn.Sequential(
                conv(inputs, 4 * middle, 1, stride), nn.BatchNorm2d(4 * middle)
            )

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn3(self.conv3(F.relu(self.bn2(self.conv2(y)))))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNet(nn.Module):
    """torchvision's and timm's resnet101, by default unchanged."""

    def __init__(
        self, width=64, classes=1000, strides=(1, 2, 2, 2), dilations=(1, 1, 1, 1), caffe=False
    ):
        super().__init__()
        self.conv1 = conv(3, width, 7, 2)
        self.bn1 = nn.BatchNorm2d(width)
        self.maxpool = nn.MaxPool2d(3, 2, 1, ceil_mode=caffe)
        inputs = width
        for i, count in enumerate(BLOCKS):
            blocks, middle = [], width * 2**i
            for k in range(count):
                stride = strides[i] if k == 0 else 1
                blocks.append(Bottleneck(inputs, middle, stride, dilations[i], k == 0, caffe))
                inputs = 4 * middle
            self.add_module(f"layer{i + 1}", nn.Sequential(*blocks))
        if classes:
            self.fc = nn.Linear(inputs, classes)

    def features(self, x: Tensor) -> Tensor:
        x = self.maxpool(F.relu(self.bn1(self.conv1(x))))
        return self.layer4(self.layer3(self.layer2(self.layer1(x))))

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.features(x).mean((2, 3)))


class IshtPyramid(Pyramid):
    def __init__(self, inputs, labels):
        super().__init__()
        self.conv2d_list = nn.ModuleList(
            nn.Conv2d(inputs, labels, 3, 1, rate, rate) for rate in RATES
        )

    def branches(self):
        return self.conv2d_list


class IshtScales(nn.Module):
    """MS_Deeplab, with whole numbers where Python 2 divided them."""

    def __init__(self, width=64, labels=21):
        super().__init__()
        self.Scale = ResNet(width, 0, (1, 2, 1, 1), (1, 1, 2, 4), caffe=True)
        self.Scale.layer5 = IshtPyramid(32 * width, labels)

    def scores(self, x: Tensor) -> Tensor:
        return self.Scale.layer5(self.Scale.features(x))

    def forward(self, x: Tensor) -> Tensor:
        size = x.shape[2]
        grown = [int(size * share) + 1 for share in (0.75, 0.5)]
        whole = self.scores(x)

        def resized(data, to):
            return F.interpolate(data, size=(to, to), mode="bilinear", align_corners=True)

        others = [resized(self.scores(resized(x, to)), whole.shape[2]) for to in grown]
        return torch.stack([whole, *others]).amax(0)


def vgg_features(width):
    layers, inputs = [], 3
    for count, factor in ((2, 1), (2, 2), (3, 4), (3, 8), (3, 8)):
        for _ in range(count):
            layers += [nn.Conv2d(inputs, width * factor, 3, padding=1), nn.ReLU()]
            inputs = width * factor
        layers.append(nn.MaxPool2d(2, 2))
    return nn.Sequential(*layers)


class TorchvisionVGG(nn.Module):
    """vgg16."""

    def __init__(self, width=64, hidden=4096, classes=1000):
        super().__init__()
        self.features = vgg_features(width)
        self.classifier = nn.Sequential(
            nn.Linear(49 * 8 * width, hidden), nn.ReLU(), nn.Dropout(),
            nn.Linear(hidden, hidden), nn.ReLU(), nn.Dropout(), nn.Linear(hidden, classes),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x).flatten(1))


class TimmVGG(nn.Module):
    """vgg16, whose first two dense layers are convolutions."""

    def __init__(self, width=64, hidden=4096, classes=1000):
        super().__init__()
        self.features = vgg_features(width)
        self.pre_logits = Named(
            fc1=nn.Conv2d(8 * width, hidden, 7), act1=nn.ReLU(), drop=nn.Dropout(),
            fc2=nn.Conv2d(hidden, hidden, 1), act2=nn.ReLU(),
        )  # fmt: skip
        self.head = Named(fc=nn.Linear(hidden, classes))

    def forward(self, x: Tensor) -> Tensor:
        return self.head.fc(self.pre_logits(self.features(x)).mean((2, 3)))
