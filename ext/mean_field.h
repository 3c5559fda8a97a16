// Mean-field inference in a fully connected CRF with Potts compatibility.
//
// Method: Kraehenbuehl, Koltun, "Efficient Inference in Fully Connected CRFs with Gaussian Edge
// Potentials", NIPS 2011. Arithmetic: libDenseCRF as released with DeepLab.
#pragma once

#include <cstddef>
#include <vector>

#include "lattice.h"

namespace caffe_port::crf {

enum class Normalization {
  kAfter,      // n = 1 / (K 1 + 1e-20), applied to what the filter gives (DeepLab)
  kSymmetric,  // n = 1 / sqrt(K 1 + 1e-20), applied before and after (pydensecrf's default)
};

// One Gaussian kernel: a lattice, its weight and the factors that normalise it.
class Kernel {
 public:
  // features: pixels x dimension. Throws what Lattice throws.
  Kernel(const float* features, std::size_t pixels, int dimension, float weight,
         Normalization normalization);

  const Lattice& lattice() const { return lattice_; }
  float weight() const { return weight_; }
  float after(std::size_t pixel) const { return factor_[pixel]; }
  bool scales_before() const { return normalization_ == Normalization::kSymmetric; }
  float before(std::size_t pixel) const { return factor_[pixel]; }

 private:
  Lattice lattice_;
  float weight_;
  Normalization normalization_;
  std::vector<float> factor_;
};

// Q = softmax(-U), then iterations times Q = softmax(-U + sum of w n K Q).
// unary and q: labels planes of pixels floats. An unary of +infinity rules a label out.
// Throws std::overflow_error when a sum leaves the range of float.
void mean_field(const float* unary, std::size_t labels, std::size_t pixels,
                const std::vector<const Kernel*>& kernels, int iterations, float* q);

}  // namespace caffe_port::crf
