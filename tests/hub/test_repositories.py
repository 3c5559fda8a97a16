"""The Hugging Face hub and torch.hub. No test asks a network; a folder never does."""

import hashlib
import socket
import sys

import huggingface_hub
import pytest
import torch

import caffe_port as cp
from caffe_port.errors import ReadError, UsageError
from tests import preloaded
from tests.goldens_dir import ROOT
from tests.hub.models import KNOWN, folder_of


@pytest.fixture(autouse=True)
def asked(monkeypatch):
    """The addresses that anything here wants to reach; no connection is made."""
    addresses, connect = [], socket.socket.connect

    def refuse(self, address):
        if self.family == socket.AF_UNIX:  # processes here
            return connect(self, address)
        addresses.append(address)
        raise OSError("no network in this test")

    def unknown(host, *_, **__):
        addresses.append(host)
        raise socket.gaierror("no network in this test")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    return addresses


def cached(folder, cache):
    """The folder as huggingface_hub keeps a repository that it downloaded; gives the commit."""
    commit = hashlib.sha1(b"model").hexdigest()
    repository = cache / "models--me--halving"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "v1").write_text(commit)
    (repository / "snapshots").mkdir()
    folder.rename(repository / "snapshots" / commit)
    return commit


def test_a_folder_needs_neither_network_nor_the_package(tmp_path, monkeypatch, asked):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    folder, net = folder_of(tmp_path, **KNOWN)
    again = cp.from_pretrained(folder)
    assert again.spec == net.spec
    assert asked == []
    with pytest.raises(
        UsageError, match=r"need the package huggingface_hub: pip install 'caffe-port"
    ):
        cp.from_pretrained("me/halving")
    with pytest.raises(UsageError, match=r"need the package huggingface_hub"):
        net.push_to_hub("me/halving")
    assert asked == []


def test_the_package_is_not_imported_without_need(tmp_path):
    folder, _ = folder_of(tmp_path)
    code = (
        "import sys, caffe_port as cp\n"
        f"net = cp.from_pretrained({str(folder)!r})\n"
        f"net.save_pretrained({str(tmp_path / 'again')!r})\n"
        "raise SystemExit('huggingface_hub' in sys.modules)"
    )
    preloaded.run([sys.executable, "-c", code], cwd=ROOT).check_returncode()


def test_revision_and_cache_reach_the_package(tmp_path, asked):
    folder, net = folder_of(tmp_path)
    cached(folder, tmp_path / "cache")
    where = {"cache_dir": tmp_path / "cache", "local_files_only": True}
    again = cp.from_pretrained("me/halving", revision="v1", phase="TRAIN", **where)
    assert again.spec.phase == "TRAIN"
    assert torch.equal(again.get_parameter("conv.weight"), net.get_parameter("conv.weight"))
    for wrong in ({"revision": "v2", **where}, {"revision": "v1", "local_files_only": True}):
        with pytest.raises(ReadError, match="me/halving: the repository cannot be used"):
            cp.from_pretrained("me/halving", **wrong)
    assert asked == []


def test_only_the_models_files_are_downloaded(tmp_path, monkeypatch):
    folder, net = folder_of(tmp_path)
    calls = []

    def snapshot_download(repo_id, **options):
        calls.append((repo_id, options))
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    assert cp.from_pretrained("me/halving", token="t", force_download=True).spec == net.spec
    (call,) = calls
    assert call[0] == "me/halving"
    names = ["net.prototxt", "model.safetensors", "config.json", "README.md"]
    assert call[1] == {
        "allow_patterns": names, "revision": None, "cache_dir": None, "token": "t",
        "force_download": True, "local_files_only": False,
    }  # fmt: skip


def test_no_network_is_a_named_error(tmp_path, asked):
    with pytest.raises(ReadError, match="me/no-such-model: the repository cannot be used: "):
        cp.from_pretrained("me/no-such-model", cache_dir=tmp_path)
    assert asked  # the guard of these tests works
    _, net = folder_of(tmp_path)
    with pytest.raises(ReadError, match="me/halving: the repository cannot be used: "):
        net.push_to_hub("me/halving", token="t")


def test_a_revision_of_a_folder(tmp_path):
    folder, _ = folder_of(tmp_path)
    with pytest.raises(UsageError, match="is a folder: leave out revision"):
        cp.from_pretrained(folder, revision="main")


class FakeApi:
    """What ``ModelHubMixin`` asks of the hub, kept in ``calls``."""

    calls: list = []

    def __init__(self, token):
        self.calls.append(token)

    def create_repo(self, repo_id, **options):
        self.calls.append((repo_id, options))
        return huggingface_hub.RepoUrl(f"https://huggingface.co/{repo_id}")

    def upload_folder(self, folder_path, **options):
        files = {path.name: path.read_bytes() for path in folder_path.iterdir()}
        self.calls.append((files, options))
        return "https://huggingface.co/me/halving/commit/1"


def test_upload_by_the_mixin(tmp_path, monkeypatch):
    folder, net = folder_of(tmp_path, **KNOWN)
    monkeypatch.setattr("huggingface_hub.hub_mixin.HfApi", FakeApi)
    monkeypatch.setattr(FakeApi, "calls", [])
    where = {"private": True, "token": "t", "branch": "b", "create_pr": True}
    address = net.push_to_hub("me/halving", commit_message="m", **where, **KNOWN)
    assert address == "https://huggingface.co/me/halving/commit/1"
    token, created, (files, options) = FakeApi.calls
    assert token == "t"
    assert created == ("me/halving", {"private": True, "exist_ok": True})
    assert files == {path.name: path.read_bytes() for path in folder.iterdir()}
    wanted = {"repo_id": "me/halving", "revision": "b", "create_pr": True, "commit_message": "m"}
    assert wanted.items() <= options.items()


def test_nothing_is_created_for_wrong_values(tmp_path, monkeypatch):
    _, net = folder_of(tmp_path)
    monkeypatch.setattr("huggingface_hub.hub_mixin.HfApi", FakeApi)
    monkeypatch.setattr(FakeApi, "calls", [])
    with pytest.raises(UsageError, match="unknown field colour"):
        net.push_to_hub("me/halving", colour=1)
    with pytest.raises(UsageError, match="'halving' is not a repository of the form OWNER/NAME"):
        net.push_to_hub("halving")
    with pytest.raises(ReadError, match=r"no\.json: cannot be read"):
        net.push_to_hub("me/halving", parity=tmp_path / "no.json")
    assert FakeApi.calls == []


@pytest.mark.parametrize("lattice", [True, False], ids=["built", "not built"])
def test_torch_hub(tmp_path, lattice):
    """A checkout that was never installed has no compiled lattice; nets without a CRF load."""
    folder, _ = folder_of(tmp_path)
    code = (
        "import sys, torch\n"
        f"{'' if lattice else 'sys.modules['}{'' if lattice else repr('caffe_port.crf._lattice')}"
        f"{'' if lattice else '] = None'}\n"
        f"net = torch.hub.load({str(ROOT)!r}, 'from_pretrained', {str(folder)!r}, source='local')\n"
        f"net.save({str(tmp_path / 'net.pt')!r})\n"
    )
    preloaded.run([sys.executable, "-c", code], cwd=tmp_path).check_returncode()
    assert cp.load(tmp_path / "net.pt").spec == cp.load(folder).spec


def test_a_checkout_without_the_compiled_lattice_says_what_to_do():
    code = (
        "import sys\nsys.modules['caffe_port.crf._lattice'] = None\n"
        "import caffe_port as cp\nfrom caffe_port.errors import UsageError\n"
        "try:\n    cp.DenseCRF(4, 4, labels=2)\n"
        "except UsageError as error:\n    print(error)\n"
    )
    ran = preloaded.run([sys.executable, "-c", code])
    ran.check_returncode()
    folder = ROOT / "caffe_port" / "crf"
    assert ran.stdout.startswith(f"the dense CRF's compiled module is not in {folder}: ")
    assert "pip install --editable ." in ran.stdout


def test_the_entry_points_of_torch_hub(tmp_path):
    folder, _ = folder_of(tmp_path, **KNOWN)
    got = torch.hub.load(str(ROOT), "segmenter", str(folder), crf="model", source="local")
    assert got.names == list(KNOWN["classes"])
    net = torch.hub.load(str(ROOT), "load", str(tmp_path / "halving.prototxt"), source="local")
    assert isinstance(net, cp.Net)
