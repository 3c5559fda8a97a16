"""Attacks with the options and inputs of layers of detectors and segmentation forks."""

from __future__ import annotations

from collections.abc import Sequence

from tests.attacks.attack import Family
from tests.attacks.entries import python
from tests.attacks.prototxts import text

FORWARD = python("caffe.Net('net.prototxt', caffe.TEST).forward()")
RUN = python("cp.load('net.prototxt')({}, keep='all')")
DETECTORS = Family("layers of detectors", FORWARD, RUN)

Bottom = tuple[Sequence[int], object]  # a shape, and the value of all its elements
MAPS = ((1, 3, 4, 4), 1)


def net(type: str, options: str, *bottoms: Bottom, tops: int = 1) -> str:
    """A net of one layer, and a DummyData layer for each of its bottoms."""
    sources = [
        f'layer {{ name: "b{i}" type: "DummyData" top: "b{i}" dummy_data_param {{ '
        f"shape {{ {' '.join(f'dim: {size}' for size in shape)} }} "
        f'data_filler {{ type: "constant" value: {value} }} }} }}\n'
        for i, (shape, value) in enumerate(bottoms)
    ]
    read = " ".join(f'bottom: "b{i}"' for i in range(len(bottoms)))
    made = " ".join(f'top: "t{i}"' for i in range(tops))
    return "".join(sources) + f'layer {{ name: "x" type: "{type}" {read} {made} {options} }}'


def refused(name: str, type: str, options: str, *bottoms: Bottom, tops: int = 1) -> None:
    """Adds a net that must be refused."""
    DETECTORS.add(name, text(net(type, options, *bottoms, tops=tops)))


def survived(name: str, type: str, options: str, *bottoms: Bottom, tops: int = 1) -> None:
    """Adds a net that may be computed: there must be no crash, and time and memory have limits."""
    hostile = text(net(type, options, *bottoms, tops=tops))
    DETECTORS.add(name, hostile, reads=(FORWARD, RUN))


# regions
GRID = "roi_pooling_param { pooled_h: %s pooled_w: 2 spatial_scale: %s }"
for value in ("9", "-1", "nan", "inf", "1e30"):
    refused(f"a region of image {value}", "ROIPooling", GRID % (2, 1), MAPS, ((1, 5), value))
    options = "psroi_pooling_param { output_dim: 3 group_size: 1 spatial_scale: 1 }"
    refused(
        f"a position-sensitive region of image {value}", "PSROIPooling", options, MAPS,
        ((1, 5), value),
    )  # fmt: skip
for name, cells, scale in (
    ("regions of 0 cells", "0", "1"),
    ("regions of 2^33 cells", "4294967295", "1"),
    ("regions of 6 million cells", "3000000", "1"),
    ("regions scaled by NaN", "2", "nan"),
    ("regions scaled by less than 0", "2", "-1"),
):
    refused(name, "ROIPooling", GRID % (cells, scale), MAPS, ((1, 5), 0))
survived("no region at all", "ROIPooling", GRID % (2, 1), MAPS, ((0, 5), 0))
for name, size in (("a group of -1", "-1"), ("a group of 2^31", "2147483647")):
    options = f"psroi_pooling_param {{ output_dim: 3 group_size: {size} spatial_scale: 1 }}"
    refused(name, "PSROIPooling", options, MAPS, ((1, 5), 0))

# proposals
ANCHOR = "proposal_param { ratio: %s scale: 1 %s }"
SIZES = ((1, 4), 64)


def proposals(side: int, score: object = 0.5, move: object = 0) -> tuple[Bottom, ...]:
    """The bottoms of a Proposal of one anchor."""
    return ((1, 2, side, side), score), ((1, 4, side, side), move), SIZES


for name, ratio, options in (
    ("proposals suppressed by NaN", "1", "nms_thresh: nan"),
    ("an anchor's ratio of NaN", "nan", ""),
    ("an anchor's ratio of 1e-40", "1e-40", ""),
    ("2^32 proposals", "1", "post_nms_topn: 4294967295"),
):
    refused(name, "Proposal", ANCHOR % (ratio, options), *proposals(4), tops=2)
survived("proposals of score NaN", "Proposal", ANCHOR % (1, ""), *proposals(4, "nan"), tops=2)
survived("proposals moved by 1e30", "Proposal", ANCHOR % (1, ""), *proposals(4, 1, 1e30), tops=2)
survived("22,500 proposals of one score", "Proposal", ANCHOR % (1, ""), *proposals(150), tops=2)

# SSD
for name, options in (
    ("a prior of side NaN", "min_size: nan"),
    ("a prior of side 0", "min_size: 0"),
    ("a prior of side -1", "min_size: -1"),
    ("a prior of side 3e9", "min_size: 3e9"),
    ("a prior up to infinity", "min_size: 9 max_size: inf"),
    ("a prior's ratio of NaN", "min_size: 9 aspect_ratio: nan"),
    ("a prior's variance of NaN", "min_size: 9 variance: nan"),
    ("a prior's step of NaN", "min_size: 9 step: nan"),
    ("a prior's step of -1", "min_size: 9 step: -1"),
):
    refused(name, "PriorBox", f"prior_box_param {{ {options} }}", MAPS, ((1, 3, 32, 32), 0))
survived("priors beyond bounds", "PriorBox", "prior_box_param { min_size: 9e8 offset: -1e30 }",
         MAPS, ((1, 3, 32, 32), 0))  # fmt: skip
CLASSES = "%s_param { num_classes: %s %s }"
PRIORS = (1, 2, 8)
for name, options in (
    ("detections suppressed by NaN", "nms_param { nms_threshold: nan }"),
    ("detections suppressed by -1", "nms_param { nms_threshold: -1 }"),
    ("a threshold that grows by NaN", "nms_param { eta: nan }"),
    ("priors without an area", "code_type: CENTER_SIZE"),
):
    refused(name, "DetectionOutput", CLASSES % ("detection_output", 3, options), ((1, 8), 1),
            ((1, 6), 1), (PRIORS, 0.5))  # fmt: skip
for kind, block, truth in (("DetectionOutput", "detection_output", ()),
                           ("MultiBoxLoss", "multibox_loss", (((1, 1, 1, 8), 1),))):  # fmt: skip
    for count in (0, 4294967295):
        refused(f"{kind} of {count} classes without a prior", kind, CLASSES % (block, count, ""),
                ((1, 0), 0), ((1, 0), 0), ((1, 2, 0), 0), *truth)  # fmt: skip
for score in ("nan", "inf"):
    survived(f"detections of score {score}", "DetectionOutput",
             CLASSES % ("detection_output", 3, "keep_top_k: 1"), ((1, 8), 1), ((1, 6), score),
             (PRIORS, 0.5))  # fmt: skip
for value in ("7", "-2", "nan", "inf", "1e30"):
    refused(f"a true box of class {value}", "MultiBoxLoss", CLASSES % ("multibox_loss", 3, ""),
            ((1, 8), 1), ((1, 6), 1), (PRIORS, 0.5), ((1, 1, 1, 8), value))  # fmt: skip
for option in ("neg_pos_ratio: inf", "neg_pos_ratio: -1", "overlap_threshold: nan",
               "loc_weight: nan", "nms_param { nms_threshold: nan }",
               "mining_type: HARD_EXAMPLE sample_size: -1"):  # fmt: skip
    refused(f"MultiBoxLoss, {option}", "MultiBoxLoss", CLASSES % ("multibox_loss", 3, option),
            ((1, 8), 1), ((1, 6), 1), (PRIORS, 0.5), ((1, 1, 1, 8), 1))  # fmt: skip
for name, classes, found, true in (
    ("detections of 2^32 classes evaluated", 4294967295, 1, 1),
    ("detections of 300 million classes evaluated", 300_000_000, 1, 1),
    ("a detection of class NaN evaluated", 3, "nan", 1),
    ("a true box of class 1e30 evaluated", 3, 1, 1e30),
):
    refused(name, "DetectionEvaluate", CLASSES % ("detection_evaluate", classes, ""),
            ((1, 1, 1, 7), found), ((1, 1, 1, 8), true))  # fmt: skip
for sigma in ("0", "-1", "nan"):
    refused(f"a sigma of {sigma}", "SmoothL1Loss", f"smooth_l1_loss_param {{ sigma: {sigma} }}",
            MAPS, MAPS)  # fmt: skip

# resizes and CRFs of segmentation forks
for name, kind, options in (
    ("padding by 2^31", "Padding", "padding_param { pad_beg: 2147483647 pad_end: 2147483647 }"),
    ("padding that cuts all", "Padding", "padding_param { pad_beg: -2 pad_end: -2 }"),
    ("unpooling to 2^32", "Unpooling",
     "unpooling_param { kernel_size: 2 unpool_size: 4294967295 }"),
    ("unpooling to 0", "Unpooling", "unpooling_param { kernel_size: 2 unpool_size: 0 }"),
    ("unpooling without a stride", "Unpooling",
     "unpooling_param { kernel_size: 2 stride: 0 unpool_size: 8 }"),
    ("a resize to 2^31", "ResizeBilinear",
     "resize_bilinear_param { output_height: 2147483647 output_width: 2147483647 }"),
    ("a resize to -1", "ResizeNearestNeighbor",
     "resize_nearest_neighbor_param { output_height: -1 output_width: -1 }"),
    ("a resize by NaN", "ResizeBilinear",
     "resize_bilinear_param { scale_height: nan scale_width: nan }"),
    ("a resize by infinity", "ResizeBilinear",
     "resize_bilinear_param { scale_height: inf scale_width: inf }"),
    ("windows of 4 billion", "Unpooling",
     "unpooling_param { unpool: TILE kernel_size: 4294967295 unpool_size: 8 }"),
):  # fmt: skip
    refused(name, kind, options, MAPS)
for name, kind, options in (
    ("mean field of 2^31 iterations", "MultiStageMeanfield",
     "multi_stage_meanfield_param { num_iterations: 2147483647 }"),
    ("a mean field's width of NaN", "MultiStageMeanfield",
     "multi_stage_meanfield_param { num_iterations: 2 theta_alpha: nan }"),
):  # fmt: skip
    refused(name, kind, options, MAPS, MAPS, MAPS)
refused("a mean field's image of NaN", "MultiStageMeanfield",
        "multi_stage_meanfield_param { num_iterations: 2 }", MAPS, MAPS, ((1, 3, 4, 4), "nan"))  # fmt: skip
refused("a CRF loss's width of 0", "DenseCRFLoss", "densecrf_loss_param { bi_xy_std: 0 }", MAPS,
        MAPS)  # fmt: skip
