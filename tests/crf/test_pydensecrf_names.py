"""caffe_port.crf.pydensecrf compared with pydensecrf: same scripts, same labels, clear errors."""

import numpy as np
import pytest

from caffe_port.crf import pydensecrf
from caffe_port.crf.pydensecrf import densecrf as ours
from caffe_port.crf.pydensecrf import utils
from caffe_port.errors import UsageError
from tests.crf.making import photograph, problem

theirs = pytest.importorskip("pydensecrf.densecrf", reason="pydensecrf2 is not installed")
their_utils = pytest.importorskip("pydensecrf.utils")

IMAGE, UNARY = problem(21, 30, labels=4)
FLAT = UNARY.reshape(4, -1)
RANDOM = np.random.default_rng(0)
COMPATIBILITIES = {
    "number": 3.0,
    "vector": -3 * RANDOM.random(4).astype(np.float32),
    "matrix": RANDOM.normal(size=(4, 4)).astype(np.float32),
}
NORMALIZATIONS = [kind.name for kind in ours.NormalizationType]


def both(script):
    return [script(module) for module in (ours, theirs)]


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("compat", COMPATIBILITIES)
@pytest.mark.parametrize("kernel", ["CONST_KERNEL", "DIAG_KERNEL", "FULL_KERNEL"])
def test_every_option_gives_the_same_labels(normalization, compat, kernel):
    def script(module):
        how = {
            "compat": COMPATIBILITIES[compat],
            "kernel": getattr(module, kernel),
            "normalization": getattr(module, normalization),
        }
        crf = module.DenseCRF2D(30, 21, 4)
        crf.setUnaryEnergy(FLAT.copy())
        crf.addPairwiseGaussian(sxy=(2, 3), **how)
        crf.addPairwiseBilateral(sxy=20, srgb=(10, 12, 14), rgbim=IMAGE.copy(), **how)
        return np.array(crf.inference(4))

    got, want = both(script)
    assert got.shape == want.shape
    assert np.mean(got.argmax(0) != want.argmax(0)) <= 1e-4
    assert np.quantile(np.abs(got - want), 0.999) < 1e-4


def test_no_label_differs_on_an_image_with_the_defaults():
    image, unary = photograph(labels=21)

    def script(module):
        crf = module.DenseCRF2D(image.shape[1], image.shape[0], 21)
        crf.setUnaryEnergy(unary.reshape(21, -1).copy())
        crf.addPairwiseGaussian(sxy=3, compat=3)
        crf.addPairwiseBilateral(sxy=80, srgb=13, rgbim=image.copy(), compat=10)
        return np.argmax(crf.inference(5), axis=0)

    got, want = both(script)
    assert np.mean(got != want) <= 1e-4


@pytest.mark.parametrize("dimension", [1, 2, 3, 5, 6, 8, 9, 13, 16])
def test_features_of_any_kind(dimension):
    features = RANDOM.normal(size=(dimension, 630)).astype(np.float32)

    def script(module):
        crf = module.DenseCRF(630, 4)
        crf.setUnaryEnergy(FLAT.copy())
        crf.addPairwiseEnergy(features.copy(), 2)
        return np.array(crf.inference(3))

    got, want = both(script)
    assert np.abs(got - want).max() < 1e-4


def test_step_by_step_with_the_divergence():
    def script(module):
        crf = module.DenseCRF2D(30, 21, 4)
        crf.setUnaryEnergy(FLAT.copy())
        crf.addPairwiseBilateral(20, 10, IMAGE.copy(), 3)
        q, tmp1, tmp2 = crf.startInference()
        divergences = []
        for _ in range(3):
            divergences.append(crf.klDivergence(q))
            crf.stepInference(q, tmp1, tmp2)
        whole = np.array(crf.inference(3))
        return np.array(q), whole, np.array(divergences)

    (q, whole, kl), (their_q, _, their_kl) = both(script)
    assert np.abs(q - whole).max() < 1e-6
    assert np.abs(q - their_q).max() < 1e-4
    assert np.allclose(kl, their_kl, rtol=1e-5)
    assert kl[0] > kl[1] > kl[2]


def test_a_logistic_unary():
    weights = RANDOM.normal(size=(4, 3)).astype(np.float32)
    features = RANDOM.normal(size=(3, 50)).astype(np.float32)

    def script(module):
        crf = module.DenseCRF(50, 4)
        crf.setUnary(module.LogisticUnary(weights.copy(), features.copy()))
        return np.array(crf.inference(0))

    got, want = both(script)
    assert np.abs(got - want).max() < 1e-6
    crf = ours.DenseCRF(50, 4)
    crf.setUnaryEnergy(weights, features)
    assert np.array_equal(crf.inference(0), got)


def test_utils_equal_pydensecrfs():
    labels = RANDOM.integers(0, 4, (5, 6))
    p = RANDOM.dirichlet(np.ones(4), 30).T.reshape(4, 5, 6)
    p[0, 0] = 0
    calls = [
        ("unary_from_labels", (labels, 3, 0.7)),
        ("unary_from_labels", (labels, 4, 0.7, False)),
        ("unary_from_softmax", (p,)),
        ("unary_from_softmax", (p, 0.8)),
        ("unary_from_softmax", (p, None, 0.01)),
        ("create_pairwise_gaussian", ((3, 2), (5, 6))),
        ("create_pairwise_gaussian", ((3, 2, 7), (5, 6, 2))),
        ("create_pairwise_bilateral", ((3, 2), (10, 11, 12), IMAGE, 2)),
        ("create_pairwise_bilateral", ((3, 2), 10, IMAGE.transpose(2, 0, 1), 0)),
        ("create_pairwise_bilateral", ((3, 2), (10,), IMAGE[:, :, 0])),
    ]
    for name, arguments in calls:
        got, want = (getattr(module, name)(*arguments) for module in (utils, their_utils))
        assert got.dtype == np.float32
        assert np.allclose(got, want, rtol=1e-6), name
    with pytest.warns(DeprecationWarning, match="unary_from_labels"):
        assert np.array_equal(
            utils.compute_unary(labels, 3), utils.unary_from_labels(labels, 3, 0.5)
        )
    with pytest.warns(DeprecationWarning, match="unary_from_softmax"):
        assert np.isinf(utils.softmax_to_unary(p)).any()


def started():
    crf = ours.DenseCRF2D(30, 21, 4)
    crf.setUnaryEnergy(FLAT)
    return crf


def read_only(array):
    result = array.copy()
    result.flags.writeable = False
    return result


def ruled_out(labels):
    """The energies with +inf for some labels of the first pixels."""
    energies = FLAT.copy()
    energies[labels, :40] = np.inf
    return energies


@pytest.mark.parametrize("labels", [0, [1, 3], [0, 1, 2]], ids=str)
@pytest.mark.parametrize("rounds", [0, 1, 5])
def test_energies_of_infinity_rule_labels_out(labels, rounds):
    def script(module):
        crf = module.DenseCRF2D(30, 21, 4)
        crf.setUnaryEnergy(ruled_out(labels))
        crf.addPairwiseGaussian(sxy=3, compat=3)
        crf.addPairwiseBilateral(sxy=20, srgb=10, rgbim=IMAGE.copy(), compat=4)
        return np.array(crf.inference(rounds))

    got, want = both(script)
    assert np.abs(got - want).max() < 1e-4
    assert np.array_equal(got.argmax(0), want.argmax(0))
    assert not got[labels, :40].any()


def test_the_divergence_is_finite_where_labels_are_ruled_out():
    crf = started()
    crf.setUnaryEnergy(ruled_out([0, 2]))
    crf.addPairwiseGaussian(3, 3)
    q, tmp1, tmp2 = crf.startInference()
    first = crf.klDivergence(q)
    crf.stepInference(q, tmp1, tmp2)
    assert np.isfinite(first)
    assert crf.klDivergence(q) < first


MASK = RANDOM.random((4, 5, 6)) < 0.5


@pytest.mark.parametrize("options", [{}, {"scale": 0.7}, {"clip": 0.01}, {"clip": None}], ids=str)
@pytest.mark.parametrize("kind", [bool, np.uint8, np.int32, np.int64, np.float16, np.float32])
def test_masks_are_probabilities(kind, options):
    got = utils.unary_from_softmax(MASK.astype(kind), **options)
    with np.errstate(divide="ignore"):
        want = their_utils.unary_from_softmax(MASK.astype(kind), **options)
    assert got.dtype == np.float32
    assert np.array_equal(got, want)


def test_slightly_negative_probabilities_are_cut():
    p = RANDOM.dirichlet(np.ones(4), 630).T.astype(np.float32)
    p[0, :50], p[1, :50] = -1e-3, 1.002
    got, want = (m.unary_from_softmax(p) for m in (utils, their_utils))
    assert np.array_equal(got, want)
    with pytest.warns(UserWarning, match=r"values from -3\.0 to 5\.0.*softmax"):
        scores = utils.unary_from_softmax(np.array([[-3.0, 5.0]]))
    assert np.array_equal(scores, their_utils.unary_from_softmax(np.array([[-3.0, 5.0]])))


def test_boolean_labels():
    labels = np.array([[True, False, True]])
    assert np.array_equal(
        utils.unary_from_labels(labels, 2, 0.7), their_utils.unary_from_labels(labels, 2, 0.7)
    )
    whole = their_utils.unary_from_labels(labels.astype(int), 2, 0.7, zero_unsure=False)
    assert np.array_equal(utils.unary_from_labels(labels, 2, 0.7, zero_unsure=False), whole)


@pytest.mark.parametrize("sizes", [(30.0, 21.0, 4.0), (30.7, np.float32(21.2), np.float64(4.9))])
def test_sizes_lose_their_fraction(sizes):
    def script(module):
        crf = module.DenseCRF2D(*sizes)
        crf.setUnaryEnergy(FLAT.copy())
        crf.addPairwiseBilateral(sxy=20, srgb=10, rgbim=IMAGE > 128, compat=4)
        return np.array(crf.inference(2.9))

    got, want = both(script)
    assert np.abs(got - want).max() < 1e-4


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ours.DenseCRF2D(30.0, 21, 4), r"w is 30\.0"),
        (lambda: started().inference(2.0), r"niter is 2\.0"),
        (lambda: started().setUnaryEnergy(ruled_out(0)), "finite"),
        (lambda: started().addPairwiseBilateral(3, 3, IMAGE > 9, 3), "image has dtype bool"),
        (lambda: utils.unary_from_softmax(MASK), "finite floats"),
        (lambda: utils.unary_from_softmax(np.array([[-1e-3], [1]])), "negative"),
        (lambda: utils.unary_from_labels(np.array([True]), 2, 0.7), "integers"),
    ],
)
def test_strictness_on_request(call, message):
    pydensecrf.set_strict()
    try:
        with pytest.raises(UsageError, match=message):
            call()
    finally:
        pydensecrf.set_strict(False)
    call()


def test_eigens_matrices_are_arrays():
    their_eigen = pytest.importorskip("pydensecrf.eigen")
    matrix = FLAT[:2, :3].copy()
    for name, array in (("matrixXf", matrix), ("vectorXf", matrix[0])):
        got, want = (getattr(module, name)(array) for module in (ours.eigen, their_eigen))
        assert np.array_equal(got, np.array(want))
        assert not np.shares_memory(got, array)
    assert isinstance(started().inference(1), ours.eigen.MatrixXf)
    crf = ours.DenseCRF(630, 4)
    crf.setUnaryEnergy(ours.eigen.matrixXf(FLAT))
    assert np.array_equal(crf.inference(0), started().inference(0))
    with pytest.raises(UsageError, match="arr has shape"):
        ours.eigen.vectorXf(matrix)


def test_every_name_is_there():
    for mine, original in ((ours, theirs), (utils, their_utils)):
        public = {n for n in dir(original) if not n.startswith("_")} - {"Number", "np", "warning"}
        assert public <= set(dir(mine))


def test_arguments_that_the_original_refuses_needlessly_are_accepted():
    crf = ours.DenseCRF2D(30, 21, 4)
    crf.setUnaryEnergy(read_only(np.asfortranarray(FLAT.astype(np.float64))))
    crf.addPairwiseBilateral(20, 10, read_only(IMAGE[::-1])[::-1], 3)
    crf.addPairwiseGaussian([2, 3], [-1, -2, -3, -4])
    assert np.abs(crf.inference(2).sum(0) - 1).max() < 1e-5


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ours.DenseCRF(0, 3), "nvar is 0"),
        (lambda: ours.DenseCRF(3, 0), "nlabels is 0"),
        (lambda: ours.DenseCRF2D(-3, 3, 3), "w is -3"),
        (lambda: ours.DenseCRF(5, 2).inference(1), "no unary has been set"),
        (lambda: started().setUnaryEnergy(FLAT.T), "unary has shape"),
        (lambda: started().setUnaryEnergy(FLAT[:, :0]), "nothing empty"),
        (lambda: started().setUnaryEnergy(FLAT * np.float32(np.nan)), "finite"),
        (lambda: started().setUnary(FLAT), "expected a Unary"),
        (lambda: started().inference(-1), "niter is -1"),
        (lambda: started().addPairwiseEnergy(np.zeros((2, 629), "f4"), 3), "features has shape"),
        (lambda: started().addPairwiseEnergy(np.zeros((17, 630), "f4"), 3), "17 dimensions"),
        (lambda: started().addPairwiseEnergy(np.full((2, 630), np.nan, "f4"), 3), "finite"),
        (lambda: started().addPairwiseGaussian(3, np.zeros(3)), "weight has shape"),
        (lambda: started().addPairwiseGaussian(3, np.zeros((4, 3))), "weight has shape"),
        (lambda: started().addPairwiseGaussian(3, np.full(4, np.inf)), "finite"),
        (lambda: started().addPairwiseGaussian(3, "3"), "weight is str"),
        (lambda: started().addPairwiseGaussian(0, 3), "sxy"),
        (lambda: started().addPairwiseGaussian(3, 3, kernel=7), "kernel is 7"),
        (lambda: started().addPairwiseGaussian(3, 3, normalization=7), "normalization is 7"),
        (lambda: started().addPairwiseBilateral(3, 3, IMAGE.transpose(1, 0, 2), 3), "image has"),
        (lambda: started().stepInference(read_only(FLAT), None, None), "writable"),
        (lambda: started().stepInference(FLAT[:, 1:].copy(), None, None), "Q has shape"),
        (lambda: utils.unary_from_labels(np.array([5]), 4, 0.5), "from 0 to 4"),
        (lambda: utils.unary_from_labels(np.array([-1]), 4, 0.5), "from 0 to 4"),
        (lambda: utils.unary_from_labels(np.array([1.0]), 4, 0.5), "integers"),
        (lambda: utils.unary_from_labels(np.array([1]), 1, 0.5), "n_labels is 1"),
        (lambda: utils.unary_from_labels(np.array([1]), 4, 1.0), "gt_prob"),
        (lambda: utils.unary_from_softmax(np.zeros((0, 4))), "not empty"),
        (lambda: utils.unary_from_softmax(-np.ones((2, 4)), clip=None), "negative"),
        (lambda: started().setUnaryEnergy(ruled_out(slice(None))), "every label of the pixel"),
        (lambda: started().setUnaryEnergy(-ruled_out(0)), "is -inf"),
        (lambda: ours.DenseCRF(float("nan"), 3), "nvar is nan"),
        (lambda: ours.DenseCRF("5", 3), "nvar is '5'"),
        (lambda: utils.unary_from_softmax(np.full((2, 4), np.nan)), "finite"),
        (lambda: utils.unary_from_softmax(np.ones((2, 4)), scale=2), "scale is 2"),
        (lambda: utils.create_pairwise_gaussian((3,), (4, 5)), "sdims has 1"),
        (lambda: utils.create_pairwise_bilateral((3, 3), (1, 2), IMAGE, 2), "schan has 2"),
        (lambda: utils.create_pairwise_bilateral((3, 3), 3, IMAGE, 5), "no image"),
    ],
)
def test_misuse_is_an_error_that_says_so(call, message):
    with pytest.raises(UsageError, match=message):
        call()
