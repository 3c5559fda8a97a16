"""The one table of tolerances of this project. Everything that judges numbers imports it.

A float32 sum taken in another order is not an error, so nothing is held against Caffe's numbers
alone. Three runs are compared: the port in float32, real Caffe's recording (float32), and the port
in float64, which stands for the exact answer:

    e_port  = max |port - exact|        e_caffe = max |Caffe - exact|

The port passes when it is about as close to the exact answer as Caffe is, and Caffe's distance is
itself what float32 arithmetic explains. The second half matters: a wrong layer is wrong in
float32 and in float64 alike, so its e_port is small, and only e_caffe gives it away.
"""

from __future__ import annotations

from dataclasses import dataclass

#: e_port may be this many times e_caffe: two orders of summation scatter that much.
PORT_TO_CAFFE = 3.0

#: or this many units in the last place (float32) of the blob's peak, for when Caffe was lucky.
ULPS_OF_PEAK = 8.0

#: or, for a parameter's gradient (a sum over all pixels and images), this part of its peak.
PARAMETER_GRADIENT = 4e-6

#: e_caffe, as a part of the blob's peak, for one layer run alone on Caffe's bottoms.
CAFFE_LAYER = 1e-5

#: the same at the end of a whole net, where the errors of its layers have added up.
CAFFE_NET = 1e-4

#: Values beyond this are no results but signs (-FLT_MAX of an empty max window, infinities): they
#: must be equal, and take no part in errors and peaks.
EXTREME = 1e37

#: Two scores tie within Caffe's error when they differ by at most this many times e_caffe: each of
#: the two may be off by it.
TIE = 2.0


@dataclass(frozen=True)
class Tolerance:
    """What one blob is held to.

    Args:
        caffe: largest e_caffe as a part of the peak.
        peak: part of the peak that e_port may always reach; 0 for none.
    """

    caffe: float
    peak: float = 0.0

    def port_allowed(self, e_caffe: float, peak: float, ulp: float) -> float:
        """The largest e_port that passes."""
        return max(PORT_TO_CAFFE * e_caffe, ULPS_OF_PEAK * ulp, self.peak * peak)


LAYER = Tolerance(CAFFE_LAYER)
NET = Tolerance(CAFFE_NET)
LAYER_PARAMETER_GRADIENT = Tolerance(CAFFE_LAYER, PARAMETER_GRADIENT)
NET_PARAMETER_GRADIENT = Tolerance(CAFFE_NET, PARAMETER_GRADIENT)
