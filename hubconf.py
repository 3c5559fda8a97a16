"""Entry points for torch.hub.

    net = torch.hub.load(CHECKOUT, "from_pretrained", "FOLDER", source="local")

Segmenter and nets with a DenseCRF layer also need the compiled extension, which
`pip install CHECKOUT` builds.
"""

dependencies = ["torch", "numpy", "google.protobuf", "h5py", "PIL", "scipy", "safetensors", "click"]


def from_pretrained(path_or_repo_id, **options):
    """A net from a model folder or a repository: see caffe_port.from_pretrained."""
    import caffe_port

    return caffe_port.from_pretrained(path_or_repo_id, **options)


def load(net, weights=None, **options):
    """A net from a prototxt and weights, or a converted model: see caffe_port.load."""
    import caffe_port

    return caffe_port.load(net, weights, **options)


def segmenter(model, weights=None, **options):
    """Image in, label map out: see caffe_port.Segmenter."""
    import caffe_port

    return caffe_port.Segmenter(model, weights, **options)
