"""pydensecrf's interface over this package's CRF: change the import, keep the script.

``from caffe_port.crf.pydensecrf import densecrf as dcrf`` and ``... import utils``.
"""
