// Mean-field inference in a fully connected CRF.
//
// Method: Kraehenbuehl, Koltun, "Efficient Inference in Fully Connected CRFs with Gaussian Edge
// Potentials", NIPS 2011. Arithmetic: libDenseCRF as released with DeepLab.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "lattice.h"

namespace caffe_port::crf {

enum class Normalization { kNone, kBefore, kAfter, kSymmetric };

// One Gaussian kernel K: a lattice and the factors n that normalise it. n = 1 / (K 1 + 1e-20)
// before or after filtering, or n = 1 / sqrt(K 1 + 1e-20) on both sides.
class Kernel {
 public:
  // exact: see PixelOrder. Throws what Lattice throws.
  Kernel(const Features& features, Normalization normalization, bool exact, int threads);

  const Lattice& lattice() const { return lattice_; }
  const float* before() const { return before_ ? factor_->data() : nullptr; }
  const float* after() const { return after_ ? factor_->data() : nullptr; }

 private:
  Lattice lattice_;
  bool before_, after_;
  std::unique_ptr<Buffer> factor_;  // n, by pixel
};

// A kernel and how much labels attract each other through it: row += weight (K Q), or, where there
// is a matrix (labels x labels, symmetric), row -= matrix (K Q).
struct Term {
  const Kernel* kernel = nullptr;
  float weight = 0;
  const float* matrix = nullptr;
};

struct Problem {
  std::size_t labels = 0, height = 0, width = 0;
  const float* unary = nullptr;  // labels planes of height x width floats; +infinity rules a label out
  const float* start = nullptr;  // the first Q, of the same shape; null for softmax(-unary)
  std::vector<Term> terms;
  int iterations = 0;
  Exponential exponential = Exponential::kCutOff;
  bool normalise = true;  // false: no softmax in the last iteration
  bool adjoint = false;   // the transposes of the kernels, n included, instead of the kernels
  bool exact = false;     // see PixelOrder; the same for all kernels
  int threads = 1;        // 1 to kChunks; does not change the result
  float* q = nullptr;             // out: labels planes; may be null
  std::int32_t* best = nullptr;   // out: each pixel's largest, the first of equals; may be null
};

// Q = softmax(-U), then iterations times Q = softmax(-U + sum of the terms).
// Throws std::overflow_error when a sum leaves the range of float.
void mean_field(const Problem& problem);

}  // namespace caffe_port::crf
