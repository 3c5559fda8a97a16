"""What a user leaves out of a fine-tuning."""

from pathlib import Path

import pytest

from caffe_port.errors import DataError
from caffe_port.finetuning import experiment
from caffe_port.finetuning.experiment import class_names_of
from caffe_port.finetuning.inputs import Images, Options
from tests.finetuning.making import make_setting


def test_class_names_come_from_the_file_given_or_the_data_s_own(tmp_path):
    images = Images(tmp_path, (), ())
    assert class_names_of(images, None) is None
    (tmp_path / "class_names.txt").write_text("ground\n\n disc \n")
    assert class_names_of(images, None) == ["ground", "disc"]
    (tmp_path / "mine").write_text("a")
    assert class_names_of(images, tmp_path / "mine") == ["a"]


def test_class_names_that_cannot_be_read_are_named(tmp_path):
    (tmp_path / "class_names.txt").write_bytes(b"caf\xe9")
    for images, path in ((Images(tmp_path, (), ()), None), (Images(Path(), (), ()), tmp_path)):
        with pytest.raises(DataError, match=f"{tmp_path}.*: the class names cannot be read"):
            class_names_of(images, path)


def test_threads_are_the_cores_of_this_process_shared_by_the_jobs(tmp_path, monkeypatch):
    setting, variants = make_setting(tmp_path)
    asked = []
    monkeypatch.setattr(experiment, "cores", lambda jobs: asked.append(jobs) or 3)
    options = Options(setting.options.variables, crf="none", jobs=4)
    made = experiment.make_setting(variants[0], setting.images, setting.init, options)
    assert (made.options.threads, asked) == (3, [4])
