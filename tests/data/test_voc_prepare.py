"""VOC2012 and SBD made into what DeepLab trained on; every broken file is named."""

from __future__ import annotations

import os
import shutil

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from caffe_port.data import voc_prepare
from caffe_port.data.image_seg import ImageSegReader, Transform
from caffe_port.data.images import read_labels, write_labels
from caffe_port.data.voc import voc_items
from caffe_port.data.voc_prepare import check_folder, find_sbd, find_voc, prepare
from caffe_port.data.voc_prepare import run as running
from caffe_port.errors import DataError, UsageError
from tests.data.voc_making import AUG, TRAIN, VAL, labels_of, make, write_image, write_sbd

TEST = "2009_000009"


@pytest.fixture
def both(tmp_path):
    """The two downloads."""
    voc, sbd = make(tmp_path)
    return voc, sbd


def prepared(both, out, **options):
    voc, sbd = both
    return prepare(find_voc(voc), None if sbd is None else find_sbd(sbd), out, **options)


def messages(outcome):
    return [problem.message for problem in outcome.problems]


def test_the_lists_are_deeplabs(both, tmp_path):
    outcome = prepared(both, tmp_path / "out")
    lists = {
        "train": sorted(TRAIN), "val": sorted(VAL), "trainval": sorted(TRAIN + VAL),
        "train_aug": sorted(AUG), "trainval_aug": sorted(AUG + VAL),
    }  # fmt: skip
    assert outcome.lists == {name: len(ids) for name, ids in lists.items()}
    files = {path.name: path.read_text() for path in (tmp_path / "out" / "list").iterdir()}
    wanted = {f"{name}_id.txt": "".join(f"{id}\n" for id in ids) for name, ids in lists.items()}
    wanted |= {
        f"{name}.txt": "".join(f"/JPEGImages/{i}.jpg /SegmentationClassAug/{i}.png\n" for i in ids)
        for name, ids in lists.items()
    }
    assert files == wanted


def test_masks_are_vocs_own_where_there_are_both(both, tmp_path):
    outcome = prepared(both, tmp_path / "out")
    assert outcome.problems == []
    assert outcome.masks == {"VOC": 5, "SBD": 2}
    assert (outcome.made, outcome.kept) == (7, 0)
    for id in AUG + VAL:
        path = tmp_path / "out" / "SegmentationClassAug" / f"{id}.png"
        with Image.open(path) as image:
            assert image.mode == "L"  # what Caffe reads as it is
            found = np.array(image)
        source = "VOC" if id in TRAIN + VAL else "SBD"
        assert np.array_equal(found, labels_of(id, source)), id


def test_an_image_seg_data_layer_and_an_evaluation_read_it(both, tmp_path):
    out = tmp_path / "out"
    prepared(both, out)
    reader = ImageSegReader(
        out / "list" / "train_aug.txt", str(out), batch_size=5, label_type="PIXEL",
        transform=Transform(crop_size=24),
    )  # fmt: skip
    _, label, _ = reader.next_batch()
    assert np.array_equal(label[2, 0, :18], labels_of("2008_000004", "SBD"))
    assert [i.id for i in voc_items(out, out / "list" / "val_id.txt")] == sorted(VAL)


def test_without_sbd_there_are_no_aug_lists(both, tmp_path):
    outcome = prepared((both[0], None), tmp_path / "out")
    assert sorted(outcome.lists) == ["train", "trainval", "val"]
    assert outcome.masks == {"VOC": 5}


def test_a_test_list_has_images_only(both, tmp_path):
    voc, _ = both
    (voc / "ImageSets" / "Segmentation" / "test.txt").write_text(f"{TEST}\n")
    outcome = prepared(both, tmp_path / "out")
    assert messages(outcome) == [
        f"{voc}/JPEGImages/{TEST}.jpg: cannot be read: No such file or directory"
    ]
    write_image(voc / "JPEGImages" / f"{TEST}.jpg")
    assert prepared(both, tmp_path / "out").problems == []
    assert (tmp_path / "out" / "list" / "test.txt").read_text() == f"/JPEGImages/{TEST}.jpg\n"
    assert check_folder(tmp_path / "out").problems == []


def test_voc_itself_may_be_the_folder(both):
    voc, _ = both
    assert prepared(both, voc).problems == []
    assert (voc / "list" / "train_aug.txt").is_file()
    assert not (voc / "JPEGImages").is_symlink()


def test_another_folder_of_images_is_refused(both, tmp_path):
    (tmp_path / "out" / "JPEGImages").mkdir(parents=True)
    with pytest.raises(UsageError, match="JPEGImages is not"):
        prepared(both, tmp_path / "out")


def damage_image(voc, sbd):
    path = voc / "JPEGImages" / "2008_000007.jpg"
    path.write_bytes(path.read_bytes()[:-200])
    return f"{path}: not an image that can be decoded: image file is truncated"


def lose_image(voc, sbd):
    path = voc / "JPEGImages" / "2008_000007.jpg"
    path.unlink()
    return f"{path}: cannot be read: No such file"


def lose_mat(voc, sbd):
    path = sbd / "cls" / "2008_000007.mat"
    path.unlink()
    return f"{path}: cannot be read: No such file"


def cut_mat(voc, sbd):
    path = sbd / "cls" / "2008_000007.mat"
    path.write_bytes(path.read_bytes()[:-40])
    return f"{path}: byte 128: an element of "


def lose_struct(voc, sbd):
    path = sbd / "cls" / "2008_000007.mat"
    savemat(path, {"other": 1})
    return f"{path}: no variable 'GTcls'"


def odd_numbers(voc, sbd):
    path = sbd / "cls" / "2008_000007.mat"
    write_sbd(path, np.full((18, 24), 256.5))
    return f"{path}: GTcls.Segmentation holds numbers other than 0 to 255"


def odd_axes(voc, sbd):
    path = sbd / "cls" / "2008_000007.mat"
    write_sbd(path, np.zeros((18, 24, 3), np.uint8))
    return f"{path}: GTcls.Segmentation has shape (18, 24, 3)"


def large_label(voc, sbd):
    labels = labels_of("2008_000007", "SBD")
    labels[2, 5:7] = 21
    path = sbd / "cls" / "2008_000007.mat"
    write_sbd(path, labels)
    return f"{path}: label 21 at row 2, column 5 and 2 such pixels in all; expected 0 to 20, or 255"


def other_size(voc, sbd):
    path = sbd / "cls" / "2008_000007.mat"
    write_sbd(path, np.zeros((24, 18), np.uint8))
    return f"{path}: 18x24 pixels, but its image has 24x18"


DAMAGES = [damage_image, lose_image, lose_mat, cut_mat, lose_struct, odd_numbers, odd_axes,
           large_label, other_size]  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda function: function.__name__)
def test_each_kind_of_damage_is_named_and_leaves_no_mask(both, tmp_path, damage):
    out = tmp_path / "out"
    mask = out / "SegmentationClassAug" / "2008_000007.png"
    prepared(both, out)
    assert mask.exists()
    message = damage(*both)
    outcome = prepared(both, out, fresh=True)
    assert [p.id for p in outcome.problems] == ["2008_000007"]
    assert messages(outcome)[0].startswith(message)
    assert not mask.exists()
    assert outcome.lists["train_aug"] == 5  # lists are what they should be


def test_vocs_masks_are_needed_and_colours_are_not_labels(both, tmp_path):
    """SBD's mask of a VOC image is no stand-in; both files of an image are looked at."""
    voc, _ = both
    masks = voc / "SegmentationClass"
    (masks / "2007_000003.png").unlink()
    Image.fromarray(np.zeros((18, 24, 3), np.uint8)).save(masks / "2008_000005.png")
    (voc / "JPEGImages" / "2008_000005.jpg").write_bytes(b"")
    found = messages(prepared(both, tmp_path / "out"))
    assert [text.partition(": ")[0].rpartition("/")[2] for text in found] == [
        "2007_000003.png", "2008_000005.jpg", "2008_000005.png",
    ]  # fmt: skip
    assert "must be a palette or grey image of class indices" in found[2]


def test_the_result_is_the_same_whatever_the_threads_do(both, tmp_path):
    damage_image(*both)
    outcomes, trees = [], []
    for name, jobs in (("a", 1), ("b", 5)):
        outcomes.append(prepared(both, tmp_path / name, jobs=jobs).to_json())
        files = [p for p in (tmp_path / name).rglob("*") if p.is_file() and "JPEG" not in str(p)]
        trees.append({str(p.relative_to(tmp_path / name)): p.read_bytes() for p in files})
    assert outcomes[0] == outcomes[1]
    assert trees[0] == trees[1]


def test_an_interrupted_run_resumes(both, tmp_path):
    out, seen = tmp_path / "out", []

    def interrupt(done, total, wrong):
        seen.append(done)
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepared(both, out, progress=interrupt)
    assert seen == [1, 2, 3]
    assert not (out / "list").exists()
    again = prepared(both, out)
    assert again.kept >= 3
    assert again.kept + again.made == 7
    assert again.to_json() == prepared(both, tmp_path / "new").to_json()
    assert prepared(both, out, fresh=True).kept == 0


def test_outdated_and_broken_files_are_rebuilt(both, tmp_path):
    _, sbd = both
    out = tmp_path / "out"
    prepared(both, out)
    masks = out / "SegmentationClassAug"
    newer = masks.joinpath("2008_000004.png").stat().st_mtime + 10
    write_sbd(sbd / "cls" / "2008_000004.mat", labels_of("2008_000004", "VOC"))
    os.utime(sbd / "cls" / "2008_000004.mat", (newer, newer))
    (masks / "2007_000001.png").write_bytes(b"half")
    write_labels(masks / "2007_000003.png", labels_of("2007_000003", "SBD"), note="SBD")
    outcome = prepared(both, out)
    assert (outcome.made, outcome.kept) == (3, 4)
    for id in ("2008_000004", "2007_000001", "2007_000003"):
        assert np.array_equal(read_labels(masks / f"{id}.png"), labels_of(id, "VOC")), id


def test_counts_that_differ_from_the_published_are_reported(both, tmp_path, monkeypatch):
    notes = prepared(both, tmp_path / "out").notes
    assert "list train_aug: 5 images, 10,582 published" in notes
    assert "SBD's val.txt: 1 images, 2,857 published" in notes
    monkeypatch.setattr(voc_prepare.layout, "SBD_PUBLISHED", {"train": 3, "val": 1})
    for name, count in prepared(both, tmp_path / "out").lists.items():
        monkeypatch.setitem(voc_prepare.layout.PUBLISHED, name, count)
    assert prepared(both, tmp_path / "out").notes == []


def test_splits_that_do_not_fit_are_reported(both, tmp_path):
    lists = both[0] / "ImageSets" / "Segmentation"
    (lists / "train.txt").write_text("\n".join((*TRAIN, VAL[0])))
    (lists / "trainval.txt").write_text("\n".join(TRAIN))
    notes = prepared(both, tmp_path / "out").notes
    assert "VOC's train and val share 1 images, 2007_000002 among them" in notes
    assert any(note.startswith("VOC's trainval is not its train and val: 2 im") for note in notes)
    (lists / "trainval.txt").unlink()
    assert prepared(both, tmp_path / "out").lists["trainval"] == 5


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a\n\nb c\n", "line 3: expected one id, found 'b c'"),
        ("../a\n", "line 1: expected one id, found '../a'"),
        ("a\nb\na\n", "line 3: a is already on line 1"),
        ("", "the list is empty"),
    ],
)
def test_malformed_lists_are_refused(both, text, message):
    (both[1] / "val.txt").write_text(text)
    with pytest.raises(DataError, match=message):
        find_sbd(both[1])


def test_the_folders_are_found_from_above_and_others_refused(both, tmp_path):
    voc, sbd = both
    assert find_voc(tmp_path).root == find_voc(tmp_path / "VOCdevkit").root == voc
    assert find_sbd(tmp_path).root == find_sbd(tmp_path / "benchmark_RELEASE").root == sbd
    with pytest.raises(UsageError, match="not VOC2012's folder; expected ImageSets"):
        find_voc(sbd)
    with pytest.raises(UsageError, match="not SBD's folder; expected cls"):
        find_sbd(voc)


def test_a_folder_in_the_layout_is_checked(both, tmp_path):
    """By its own lists, or by those of VOC's kind, or by those named; nothing is written."""
    out = tmp_path / "out"
    made = prepared(both, out)
    assert {p.name for p in out.iterdir()} == {"JPEGImages", "SegmentationClassAug", "list"}
    outcome = check_folder(out)
    assert (outcome.lists, outcome.problems, outcome.made) == (made.lists, [], 0)
    assert np.array_equal(outcome.pixels, made.pixels)
    assert check_folder(both[0]).masks == {"VOC": 5}
    (out / "SegmentationClassAug" / "2007_000002.png").unlink()
    write_labels(out / "SegmentationClassAug" / "2008_000007.png", np.full((18, 24), 6, np.uint8))
    assert messages(check_folder(out)) == [
        f"{out}/list/trainval.txt: line 2: {out}/SegmentationClassAug/2007_000002.png: cannot be "
        "read: No such file or directory",
    ]
    assert messages(check_folder(out, classes=6))[-1] == (
        f"{out}/list/train_aug.txt: line 5: {out}/SegmentationClassAug/2008_000007.png: label 6 at "
        "row 0, column 0 and 432 such pixels in all; expected 0 to 5, or 255"
    )
    names = tmp_path / "mine.txt"
    names.write_text("2007_000001\n/JPEGImages/2007_000003.jpg\n")
    outcome = check_folder(out, [names])
    assert (outcome.lists, outcome.masks) == ({"mine": 2}, {"VOC": 2})


def test_classes_have_vocs_names_where_there_are_21(both, tmp_path):
    rows = prepared(both, tmp_path / "out").class_rows()
    assert [rows[0][0], rows[1][0], rows[-1][0]] == ["background", "aeroplane", "void"]
    assert sum(share for *_, share in rows) == pytest.approx(100)
    rows = prepared(both, tmp_path / "out", classes=30).class_rows()
    assert [rows[0][0], rows[1][0], rows[-1][0]] == ["class 0", "class 1", "void"]


def test_a_file_that_cannot_be_a_list_is_refused(both, tmp_path):
    names = tmp_path / "mine.txt"
    names.write_text("a/b\n")
    with pytest.raises(DataError, match="'a/b' is neither an id nor an image file"):
        check_folder(both[0], [names])
    shutil.rmtree(both[0] / "ImageSets")
    with pytest.raises(UsageError, match="no lists; expected"):
        check_folder(both[0])


def test_a_mask_that_cannot_be_written_ends_the_run(both, tmp_path, monkeypatch):
    def full(path, labels, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(running, "write_labels", full)
    with pytest.raises(OSError, match="No space left"):
        prepared(both, tmp_path / "out", jobs=3)
    assert not (tmp_path / "out" / "list").exists()
