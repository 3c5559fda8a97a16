"""Single points followed by hand through every rule."""

import numpy as np
import pytest

from caffe_port.spec.ops import BUILTIN as TYPES
from caffe_port.spec.ops import op_class
from caffe_port.unravel.rules import BUILTIN
from tests.unravel.nets import data, follow, layer, make

CONV = "convolution_param {{ num_output: {out} bias_term: false {more} }}"
# image of two channels, 3 x 4: channel 0 counts up, channel 1 is 1 but for a 9 at (2, 1)
X = np.stack([np.arange(12.0).reshape(3, 4), np.ones((3, 4))])[None]
X[0, 1, 2, 1] = 9


def conv(more, out=1, type="Convolution", shape=(1, 2, 3, 4)):
    return data(*shape) + layer(type, CONV.format(out=out, more=more))


class TestConvolution:
    # filter 3 x 3 over channel 0 all 0.1, over channel 1 all 1: at (1, 1) channel 0 adds
    # 0.1 * (0+1+2+4+5+6+8+9+10) = 4.5, channel 1 adds 8 + 9 = 17
    WEIGHT = np.stack([np.full((3, 3), 0.1), np.ones((3, 3))])

    def net(self, more="kernel_size: 3"):
        return make(conv(more), layer__weight=self.WEIGHT)

    def test_the_channel_then_the_place(self):
        # of the window of place (0, 0), rows 0..2, columns 0..2
        assert follow(self.net(), X, (0, 0, 0))["data"] == [(1, 2, 1)]

    def test_the_largest_sum_wins_not_the_largest_product(self):
        x = X.copy()
        x[0, 0, 2, 2] = 100  # product 10 > 9, but the sums are 13.5 and 17
        assert follow(self.net(), x, (0, 0, 0))["data"] == [(1, 2, 1)]

    def test_two_channels(self):
        found = follow(self.net(), X, (0, 0, 0), k=2)["data"]
        assert found == [(0, 2, 2), (1, 2, 1)]

    def test_more_channels_than_there_are(self):
        assert len(follow(self.net(), X, (0, 0, 0), k=9)["data"]) == 2

    def test_no_shift_goes_to_the_centre(self):
        assert follow(self.net(), X, (0, 0, 1), shift="no_shift")["data"] == [(1, 1, 2)]

    def test_partial_shift_shifts_without_holes_only(self):
        assert follow(self.net(), X, (0, 0, 0), shift="partial_shift")["data"] == [(1, 2, 1)]
        dilated = self.net("kernel_size: 3 dilation: 2 pad: 2")
        assert follow(dilated, X, (0, 0, 1), shift="partial_shift")["data"] == [(1, 0, 1)]
        # rows -2, 0, 2 and columns -1, 1, 3
        assert follow(dilated, X, (0, 0, 1), shift="full_shift")["data"] == [(1, 2, 1)]

    def test_stride_and_padding(self):
        net = self.net("kernel_size: 3 stride: 2 pad: 1")
        # window of (1, 1): rows 1..3, columns 1..3
        assert follow(net, X, (0, 1, 1))["data"] == [(1, 2, 1)]

    def test_a_place_in_the_padding_is_moved_to_the_edge(self):
        net = make(conv("kernel_size: 3 pad: 1"), layer__weight=-self.WEIGHT)
        # all products are negative but those in the padding: the last of these is (-1..1, -1..1)'s
        # (1, -1), which is moved to (1, 0); channel 0 adds -1.0, channel 1 -4
        assert follow(net, X, (0, 0, 0))["data"] == [(0, 1, 0)]

    def test_the_last_of_equals(self):
        net = make(conv("kernel_size: 2"), layer__weight=np.ones((2, 2, 2)))
        assert follow(net, np.zeros((1, 2, 3, 4)), (0, 0, 0))["data"] == [(1, 1, 1)]

    def test_groups(self):
        x = np.zeros((1, 4, 1, 1))
        x[0, :, 0, 0] = [5, 4, 1, 2]
        net = make(
            conv("kernel_size: 1 group: 2", out=2, shape=(1, 4, 1, 1)),
            layer__weight=[[1, 1], [1, 1]],
        )
        assert follow(net, x, (0, 0, 0))["data"] == [(0, 0, 0)]
        assert follow(net, x, (1, 0, 0))["data"] == [(3, 0, 0)]

    def test_groups_with_dilation(self):
        x = np.zeros((1, 2, 1, 5))
        x[0, 1, 0] = [1, 9, 3, 9, 2]
        more = "kernel_h: 1 kernel_w: 3 dilation: 1 dilation: 2 group: 2"
        net = make(
            conv(more, out=2, shape=(1, 2, 1, 5)), layer__weight=[[[[1, 1, 1]]], [[[1, 1, 1]]]]
        )
        assert follow(net, x, (1, 0, 0))["data"] == [(1, 0, 2)]

    def test_filters_of_several_bottoms(self):
        text = data(1, 1, 1, 2, name="a") + data(1, 1, 1, 2, name="b")
        text += layer("Convolution", CONV.format(out=1, more="kernel_h: 1 kernel_w: 2"), "a b",
                      "first out")  # fmt: skip
        inputs = {"a": [[[[5, 1]]]], "b": [[[[1, 5]]]]}
        net = make(text, layer__weight=[1, 1])
        assert follow(net, inputs, (0, 0, 0)) == {"out": [(0, 0, 0)], "b": [(0, 0, 1)]}

    def test_without_spatial_axes(self):
        text = data(1, 3) + layer("Convolution", CONV.format(out=2, more="kernel_size: 1"),
                                  top="scores")  # fmt: skip
        shape = "reshape_param { shape { dim: 1 dim: 2 dim: 1 dim: 1 } }"
        text += layer("Reshape", shape, "scores", "out", "four")
        net = make(text, layer__weight=[[1, 2, 3], [3, 2, 1]])
        assert follow(net, [[1, 1, 1]], (0, 0, 0))["data"] == [(2, 0, 0)]
        assert follow(net, [[1, 1, 1]], (1, 0, 0))["scores"] == [(1, 0, 0)]

    def test_three_spatial_axes(self):
        text = data(1, 1, 2, 2, 2) + layer("Convolution", CONV.format(out=1, more="kernel_size: 2"),
                                           top="cube")  # fmt: skip
        shape = "reshape_param { shape { dim: 1 dim: 1 dim: 1 dim: 1 } }"
        text += layer("Reshape", shape, "cube", "out", "four")
        net = make(text, layer__weight=[1, 1, 1, 1, 1, 7, 1, 1])
        assert follow(net, np.ones((1, 1, 2, 2, 2)), (0, 0, 0))["data"] == [(0, 1, 0, 1)]


class TestDeconvolution:
    # 2 x: of filter rows and columns 0..3, a top place y is reached by bottom rows (y + 1) // 2
    # with tap (y + 1) % 2 and the row above with tap (y + 1) % 2 + 2
    TAPS = np.outer([1, 3, 3, 1], [1, 3, 3, 1]) / 16
    MORE = "kernel_size: 4 stride: 2 pad: 1"

    def net(self, more=MORE, **options):
        return make(conv(more, type="Deconvolution", **options), layer__weight=self.TAPS)

    def test_the_largest_product(self):
        net = self.net(shape=(1, 1, 2, 2))
        x = np.array([[[[1.0, 1], [1, 1]]]])
        # place (1, 1) is reached by (1, 1) with tap (0, 0) = 1/16 ... (0, 0) with tap (2, 2) = 9/16
        assert follow(net, x, (0, 1, 1))["data"] == [(0, 0, 0)]
        x[0, 0, 1, 1] = 10  # 10/16 > 9/16
        assert follow(net, x, (0, 1, 1))["data"] == [(0, 1, 1)]

    def test_no_shift_goes_where_the_filter_is_nearest(self):
        x = np.array([[[[1.0, 1], [1, 10]]]])
        for shift, want in (("no_shift", (0, 0, 0)), ("partial_shift", (0, 1, 1))):
            net = self.net(shape=(1, 1, 2, 2))
            assert follow(net, x, (0, 1, 1), shift=shift)["data"] == [want]

    def test_channels_and_groups(self):
        x = np.array([1.0, 2, 3, 4]).reshape(1, 4, 1, 1)
        # two groups of two channels, two tops each: weight (in 4, out / group 2, 1, 1)
        weight = [[1, 9], [1, 1], [9, 1], [1, 1]]
        text = conv("kernel_size: 1 group: 2", 4, "Deconvolution", (1, 4, 1, 1))
        net = make(text, layer__weight=weight)
        found = [follow(net, x, (out, 0, 0))["data"] for out in range(4)]
        # out 0: 1*1, 2*1; out 1: 1*9, 2*1; out 2: 3*9, 4*1; out 3: 3*1, 4*1
        assert found == [[(1, 0, 0)], [(0, 0, 0)], [(2, 0, 0)], [(3, 0, 0)]]
        assert follow(net, x, (2, 0, 0), k=2)["data"] == [(2, 0, 0), (3, 0, 0)]

    def test_dilation(self):
        text = conv("kernel_h: 1 kernel_w: 2 dilation: 1 dilation: 2", 1, "Deconvolution",
                    (1, 1, 1, 3))  # fmt: skip
        net = make(text, layer__weight=[1, 1])
        # place 2 is reached by 2 with tap 0 and by 0 with tap 1; not by 1
        assert follow(net, [[[[5, 9, 4]]]], (0, 0, 2))["data"] == [(0, 0, 0)]
        assert follow(net, [[[[4, 9, 5]]]], (0, 0, 2))["data"] == [(0, 0, 2)]

    def test_a_point_that_no_filter_reaches_is_dropped(self):
        text = conv("kernel_h: 1 kernel_w: 1 stride: 2", 1, "Deconvolution", (1, 1, 1, 2))
        net = make(text, layer__weight=[1])
        assert follow(net, [[[[1, 1]]]], (0, 0, 1)) == {"out": [(0, 0, 1)]}
        assert follow(net, [[[[1, 1]]]], (0, 0, 2))["data"] == [(0, 0, 1)]


class TestPooling:
    def pooled(self, options, x, start):
        net = make(data(*np.shape(x)) + layer("Pooling", f"pooling_param {{ {options} }}"))
        return follow(net, x, start)["data"]

    @pytest.mark.parametrize("method", ["MAX", "AVE"])
    def test_the_largest_of_the_channel(self, method):
        options = f"pool: {method} kernel_size: 2 stride: 1"
        assert self.pooled(options, X, (0, 0, 0)) == [(0, 1, 1)]
        assert self.pooled(options, X, (1, 1, 1)) == [(1, 2, 1)]

    def test_values_beyond_the_blob_are_ignored(self):
        # width 4, kernel 3, stride 2, rounded up: the last window has columns 2, 3 only
        x = np.full((1, 1, 1, 4), -1.0)
        options = "pool: MAX kernel_h: 1 kernel_w: 3 stride: 2"
        assert self.pooled(options, x, (0, 0, 1)) == [(0, 0, 3)]

    def test_padding_counts_as_zero(self):
        x = np.array([[[[-1.0, -2], [-3, -4]]]])
        options = "pool: MAX kernel_size: 2 stride: 1 pad: 1"
        # the window of (0, 0) holds three zeros and -1; the last zero is (0, -1), moved to (0, 0)
        assert self.pooled(options, x, (0, 0, 0)) == [(0, 0, 0)]
        assert self.pooled(options, x, (0, 1, 1)) == [(0, 0, 0)]

    @pytest.mark.parametrize("method", ["MAX", "AVE"])
    def test_a_point_whose_window_is_wholly_outside_is_dropped(self, method):
        net = make(
            data(1, 1, 1, 5)
            + layer("Pooling", f"pooling_param {{ pool: {method} kernel_size: 1 stride: 3 }}")
        )
        x = np.ones((1, 1, 1, 5))
        assert follow(net, x, (0, 0, 2)) == {"out": [(0, 0, 2)]}
        assert follow(net, x, (0, 0, 1))["data"] == [(0, 0, 3)]

    def test_global(self):
        assert self.pooled("pool: AVE global_pooling: true", X, (1, 0, 0)) == [(1, 2, 1)]


class TestInnerProduct:
    def net(self, options="", weight=(1, 1, 1, 1, 2, 2, 2, 2)):
        text = data(1, 2, 2, 2) + layer(
            "InnerProduct", f"inner_product_param {{ num_output: 1 bias_term: false {options} }}",
            top="scores",
        )  # fmt: skip
        shape = "reshape_param { shape { dim: 1 dim: 1 dim: 1 dim: 1 } }"
        return make(text + layer("Reshape", shape, "scores", "out", "four"), layer__weight=weight)

    X = np.array([[[[1.0, 9], [2, 3]], [[4, 4], [5, 1]]]])  # sums 15 and 14, weighted 15 and 28

    def test_channel_and_place(self):
        assert follow(self.net(), self.X, (0, 0, 0))["data"] == [(1, 1, 0)]
        assert follow(self.net(), self.X, (0, 0, 0), k=2)["data"] == [(0, 0, 1), (1, 1, 0)]
        assert follow(self.net("transpose: true"), self.X, (0, 0, 0))["data"] == [(1, 1, 0)]

    def test_no_shift_is_the_centre(self):
        assert follow(self.net(), self.X, (0, 0, 0), shift="no_shift")["data"] == [(1, 1, 1)]

    def test_it_equals_the_convolution_it_is(self):
        rng = np.random.default_rng(0)
        weight, x = rng.normal(size=(3, 24)), rng.normal(size=(1, 2, 3, 4))
        text = data(1, 2, 3, 4) + layer(
            "InnerProduct", "inner_product_param { num_output: 3 bias_term: false }", top="s"
        )
        shape = "reshape_param { shape { dim: 1 dim: 3 dim: 1 dim: 1 } }"
        full = make(text + layer("Reshape", shape, "s", "out", "four"), layer__weight=weight)
        filters = make(conv("kernel_h: 3 kernel_w: 4", 3), layer__weight=weight)
        for out in range(3):
            for k in (1, 2):
                want = follow(filters, x, (out, 0, 0), k=k)["data"]
                assert follow(full, x, (out, 0, 0), k=k)["data"] == want


class TestEltwise:
    def net(self, options=""):
        text = data(1, 1, 1, 2, name="a") + data(1, 1, 1, 2, name="b")
        return make(text + layer("Eltwise", options, "a b"))

    @pytest.mark.parametrize("operation", ["SUM", "MAX", "PROD"])
    def test_the_larger_bottom(self, operation):
        net = self.net(f"eltwise_param {{ operation: {operation} }}")
        inputs = {"a": [[[[1, 5]]]], "b": [[[[2, 4]]]]}
        assert follow(net, inputs, (0, 0, 0)) == {"out": [(0, 0, 0)], "b": [(0, 0, 0)]}
        assert follow(net, inputs, (0, 0, 1)) == {"out": [(0, 0, 1)], "a": [(0, 0, 1)]}

    def test_the_first_of_equals(self):
        inputs = {"a": [[[[3, 0]]]], "b": [[[[3, 0]]]]}
        assert "a" in follow(self.net(), inputs, (0, 0, 0))

    def test_a_sums_coefficients_count(self):
        net = self.net("eltwise_param { operation: SUM coeff: 1 coeff: -1 }")
        assert "a" in follow(net, {"a": [[[[1, 0]]]], "b": [[[[2, 0]]]]}, (0, 0, 0))


class TestForks:
    def test_upsample_and_unpooling_go_where_the_mask_came_from(self):
        for type, block in (("Upsample", "upsample_param { upsample_h: 2 upsample_w: 3 }"),
                            ("Unpooling", "unpooling_param { kernel_size: 2 unpool_h: 2 "
                             "unpool_w: 3 }")):  # fmt: skip
            text = data(1, 1, 1, 3) + data(1, 1, 1, 3, name="mask")
            net = make(text + layer(type, block, "data mask"))
            inputs = {"data": np.ones((1, 1, 1, 3)), "mask": np.array([[[[4, 0, 4]]]])}
            assert follow(net, inputs, (0, 1, 1)) == {"out": [(0, 1, 1)], "data": [(0, 0, 2)]}
            assert follow(net, inputs, (0, 0, 0))["data"] == [(0, 0, 1)]
            assert "data" not in follow(net, inputs, (0, 1, 2))

    def test_repeated_values(self):
        x = np.ones((1, 2, 3, 4))
        net = make(data(1, 2, 3, 4) + layer("Upsample", "upsample_param { scale: 2 }"))
        assert follow(net, x, (1, 5, 2))["data"] == [(1, 2, 1)]
        tile = "unpooling_param { unpool: TILE kernel_size: 1 stride: 2 unpool_size: 8 }"
        net = make(data(1, 2, 3, 4) + layer("Unpooling", tile))
        assert follow(net, x, (1, 4, 2))["data"] == [(1, 2, 1)]
        assert "data" not in follow(net, x, (1, 4, 3))

    def test_padding(self):
        x = np.ones((1, 2, 3, 4))
        net = make(data(1, 2, 3, 4) + layer("Padding", "padding_param { pad_beg: 1 pad_end: 1 }"))
        assert follow(net, x, (1, 1, 2))["data"] == [(1, 0, 1)]
        assert "data" not in follow(net, x, (1, 0, 2))

    def test_resizes(self):
        options = 'data_format: "NCHW" output_height: 6 output_width: 2'
        net = make(data(1, 2, 3, 4)
                   + layer("ResizeBilinear", f"resize_bilinear_param {{ {options} }}"))  # fmt: skip
        assert follow(net, np.ones((1, 2, 3, 4)), (1, 3, 1))["data"] == [(1, 1, 2)]

    def test_axpy_goes_to_the_larger_term(self):
        text = data(1, 2, name="a") + data(1, 2, 1, 2, name="x") + data(1, 2, 1, 2, name="y")
        net = make(text + layer("Axpy", bottom="a x y"))
        inputs = {"a": [[2, 0.5]], "x": np.ones((1, 2, 1, 2)), "y": np.ones((1, 2, 1, 2))}
        assert follow(net, inputs, (0, 0, 1)) == {"out": [(0, 0, 1)], "x": [(0, 0, 1)]}
        assert follow(net, inputs, (1, 0, 1)) == {"out": [(1, 0, 1)], "y": [(1, 0, 1)]}


class TestInterp:
    def moved(self, options, shape, start):
        net = make(data(1, 1, *shape) + layer("Interp", f"interp_param {{ {options} }}"))
        return follow(net, np.zeros((1, 1, *shape)), start)["data"]

    def test_zoom_and_shrink(self):
        assert self.moved("zoom_factor: 8", (3, 3), (0, 15, 16)) == [(0, 1, 2)]
        assert self.moved("shrink_factor: 2", (9, 9), (0, 3, 4)) == [(0, 6, 8)]
        # 3 / 4: 9 -> 3 -> 7; upstream's division comes first
        assert self.moved("shrink_factor: 4 zoom_factor: 3", (9, 9), (0, 5, 6)) == [(0, 4, 8)]

    def test_a_size(self):
        # corner on corner: 4 -> 7 is half a step each
        assert self.moved("height: 7 width: 7", (4, 4), (0, 5, 6)) == [(0, 2, 3)]

    def test_what_is_cut_off_in_front(self):
        options = "zoom_factor: 2 pad_beg: -1 pad_end: -1"
        assert self.moved(options, (5, 5), (0, 4, 1)) == [(0, 3, 1)]


class TestAxes:
    def test_crop(self):
        text = data(1, 2, 5, 6) + data(1, 9, 2, 3, name="like")
        net = make(text + layer("Crop", "crop_param { axis: 2 offset: 2 offset: 3 }", "data like"))
        inputs = {"data": np.zeros((1, 2, 5, 6)), "like": np.zeros((1, 9, 2, 3))}
        found = follow(net, inputs, (1, 1, 2))
        assert found == {"out": [(1, 1, 2)], "data": [(1, 3, 5)]}

    @pytest.mark.parametrize("axis", [1, -3])
    def test_concat(self, axis):
        text = data(1, 2, 1, 2, name="a") + data(1, 3, 1, 2, name="b")
        net = make(text + layer("Concat", f"concat_param {{ axis: {axis} }}", "a b"))
        inputs = {"a": np.zeros((1, 2, 1, 2)), "b": np.zeros((1, 3, 1, 2))}
        assert follow(net, inputs, (1, 0, 1)) == {"out": [(1, 0, 1)], "a": [(1, 0, 1)]}
        assert follow(net, inputs, (4, 0, 1)) == {"out": [(4, 0, 1)], "b": [(2, 0, 1)]}

    def test_slice(self):
        text = data(1, 5, 1, 2) + layer("Slice", "slice_param { slice_point: 2 }", top="first out")
        net = make(text)
        assert follow(net, np.zeros((1, 5, 1, 2)), (1, 0, 1))["data"] == [(3, 0, 1)]
        assert follow(net, np.zeros((1, 5, 1, 2)), (1, 0, 1), "first")["data"] == [(1, 0, 1)]

    def test_permute(self):
        text = data(1, 2, 3, 4) + layer(
            "Permute", "permute_param { order: 0 order: 3 order: 1 order: 2 }"
        )
        assert follow(make(text), np.zeros((1, 2, 3, 4)), (3, 1, 2))["data"] == [(1, 2, 3)]

    @pytest.mark.parametrize(
        ("reverse", "top", "bottom"),
        [(False, (13, 1, 0), (1, 3, 1)), (True, (0, 5, 7), (3, 2, 3))],
    )
    def test_reorg(self, reverse, top, bottom):
        """By hand.

        (13, 1, 0) of 16 x 2 x 2 is value 54 of 4 x 4 x 4, (3, 1, 2): the offset of channel 3 is
        (1, 1), so it comes from (0, 3, 5) of 1 x 8 x 8, value 29 of 4 x 4 x 4, (1, 3, 1).
        """
        options = f"reorg_param {{ stride: 2 reverse: {str(reverse).lower()} }}"
        net = make(data(1, 4, 4, 4) + layer("Reorg", options))
        assert follow(net, np.zeros((1, 4, 4, 4)), top)["data"] == [bottom]

    def test_flatten_and_reshape(self):
        shape = "reshape_param { shape { dim: 1 dim: 6 dim: 2 dim: 1 } }"
        text = data(1, 2, 2, 3) + layer("Flatten", top="row", name="flatten")
        net = make(text + layer("Reshape", shape, "row"))
        found = follow(net, np.zeros((1, 2, 2, 3)), (4, 1, 0))
        # value 9 of 12: (1, 1, 0) of (2, 2, 3)
        assert found == {"out": [(4, 1, 0)], "row": [(9, 0, 0)], "data": [(1, 1, 0)]}


STAYING = sorted(type for type in TYPES if op_class(type).keeps_index)
SECOND_BOTTOM = {"AdaptiveBiasChannel", "BiasChannel", "MultiStageMeanfield"}


@pytest.mark.parametrize("type", [t for t in STAYING if t not in SECOND_BOTTOM | {"Reshape"}])
def test_a_point_stays(type):
    options = {"Clip": "clip_param { min: 0 max: 1 }", "Flatten": "flatten_param { axis: 3 }"}
    text = data(1, 2, 3, 4) + layer(type, options.get(type, ""))
    net = make(text)
    assert follow(net, np.ones((1, 2, 3, 4)), (1, 2, 3))["data"] == [(1, 2, 3)]


def test_every_builtin_rule_is_where_the_table_says():
    assert set(BUILTIN) <= set(TYPES)
    assert {"Convolution", "Deconvolution", "Crop", "InnerProduct"} <= set(BUILTIN)
    assert {"Softmax", "ReLU", "Reshape"} <= set(STAYING)
    assert len(STAYING) == 30
    assert not set(STAYING) & set(BUILTIN)
