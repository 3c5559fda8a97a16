"""Which layers are exported, what their inputs and outputs are, and what is said of the rest."""

from __future__ import annotations

import pytest

from caffe_port.errors import UsageError
from caffe_port.export.graph import make_graph
from tests.layers.helpers import net_of

SCORE = (
    'layer { name: "fc" type: "InnerProduct" bottom: "b0" top: "fc" '
    "inner_product_param { num_output: 3 } }"
    'layer { name: "fc_relu" type: "ReLU" bottom: "fc" top: "fc" }'
)


def graph_of(text, *shapes):
    return make_graph(net_of(text, *shapes).spec)


def names(graph):
    return [node.layer.name for node in graph.nodes]


def test_losses_and_metrics_go_and_what_they_read_is_the_output():
    graph = graph_of(
        SCORE + 'layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "b1" top: "l" }'
        'layer { name: "accuracy" type: "Accuracy" bottom: "fc" bottom: "b1" top: "a" }'
        'layer { name: "twice" type: "Power" bottom: "l" top: "l2" power_param { scale: 2 } }',
        (2, 4),
        (2,),
    )
    assert (names(graph), graph.inputs, graph.outputs) == (["fc", "fc_relu"], ("b0",), {"fc": "fc"})
    assert graph.left_out == (
        "layer 'loss' (SoftmaxWithLoss) is left out: a loss",
        "layer 'accuracy' (Accuracy) is left out: it only reports or writes files",
        "layer 'twice' (Power) is left out: it reads 'l', which is left out",
    )


def test_what_is_computed_for_labels_only_goes_too():
    graph = graph_of(
        'layer { name: "score" type: "Interp" bottom: "b0" top: "score" '
        "interp_param { shrink_factor: 2 } }"
        'layer { name: "label" type: "Interp" bottom: "b1" top: "label" '
        "interp_param { shrink_factor: 2 } }"
        'layer { name: "loss" type: "SoftmaxWithLoss" bottom: "score" bottom: "label" top: "l" }',
        (1, 3, 5, 5),
        (1, 1, 5, 5),
    )
    assert (names(graph), graph.inputs, list(graph.outputs)) == (["score"], ("b0",), ["score"])


def test_each_writing_of_a_blob_is_a_value():
    graph = graph_of(SCORE, (2, 4))
    assert [(node.bottoms, node.tops) for node in graph.nodes] == [
        (("b0",), ("fc/fc",)),
        (("fc/fc",), ("fc",)),
    ]
    assert graph.shapes["fc/fc"] == graph.shapes["fc"] == (2, 3)


def test_caffes_own_splits_go_and_those_of_the_prototxt_name_outputs():
    graph = graph_of(
        'layer { name: "a" type: "ReLU" bottom: "b0" top: "a" }'
        'layer { name: "b" type: "ReLU" bottom: "b0" top: "b" }'
        'layer { name: "s" type: "Split" bottom: "b" top: "one" top: "two" }',
        (2, 3),
    )
    assert names(graph) == ["a", "b"]
    assert graph.outputs == {"a": "a", "b": "b", "one": "b", "two": "b"}


def test_what_silence_reads_is_no_output():
    graph = graph_of(
        'layer { name: "a" type: "ReLU" bottom: "b0" top: "a" }'
        'layer { name: "b" type: "ReLU" bottom: "b0" top: "b" }'
        'layer { name: "s" type: "Silence" bottom: "b" }',
        (2, 3),
    )
    assert (names(graph), list(graph.outputs)) == (["a"], ["a"])


def test_the_training_net_is_refused_with_what_to_do():
    net = net_of(SCORE, (2, 4), phase="TRAIN")
    with pytest.raises(UsageError, match=r"phase TRAIN; .*phase='TEST'"):
        make_graph(net.spec)


def test_a_net_of_losses_only_is_refused():
    with pytest.raises(UsageError, match="nothing of the net"):
        graph_of(
            'layer { name: "l" type: "EuclideanLoss" bottom: "b0" bottom: "b1" top: "l" }',
            (2, 3),
            (2, 3),
        )


def test_what_only_a_metric_reads_is_an_output_but_its_label_is_not():
    graph = graph_of(
        SCORE + 'layer { name: "label" type: "Power" bottom: "b1" top: "label" }'
        'layer { name: "acc" type: "Accuracy" bottom: "fc" bottom: "label" top: "a" }',
        (2, 4),
        (2,),
    )
    assert (graph.inputs, list(graph.outputs)) == (("b0",), ["fc"])
