#include "mean_field.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <stdexcept>

#include "float_state.h"
#include "softmax.h"

namespace caffe_port::crf {
namespace {

// A kernel at work: the values at its vertices, and a second buffer for the blur.
struct Filter {
  Filter(const Kernel& kernel, std::size_t width)
      : kernel(kernel),
        values(kernel.lattice().rows(), width),
        scratch(kernel.lattice().rows(), width),
        scaled(1, width) {}

  void add(std::size_t pixel, const Vec* q) {
    if (kernel.scales_before()) {
      const float factor = kernel.before(pixel);
      for (std::size_t k = 0; k < values.width(); ++k) scaled[0][k] = factor * q[k];
      q = scaled[0];
    }
    splat(kernel.lattice(), pixel, q, scratch);
  }

  // row += w n (K Q), of the values blurred last.
  void apply(std::size_t pixel, Vec* row) const {
    slice(kernel.lattice(), pixel, kernel.weight() * kernel.after(pixel), values, row);
  }

  // Blurs what was added since the last call, and makes room for the next round.
  void turn() {
    values.swap(scratch);
    blur(kernel.lattice(), values, scratch);
    scratch.clear();
  }

  const Kernel& kernel;
  Rows<Vec> values;   // blurred, to be read
  Rows<Vec> scratch;  // being added to
  Rows<Vec> scaled;
};

class MeanField {
 public:
  MeanField(const float* unary, std::size_t labels, std::size_t pixels,
            const std::vector<const Kernel*>& kernels)
      : labels_(labels),
        pixels_(pixels),
        width_((labels + kLanes - 1) / kLanes),
        scores_(pixels, width_),
        block_(kBlock, width_) {
    for (const Kernel* kernel : kernels)
      filters_.push_back(std::make_unique<Filter>(*kernel, width_));
    load(unary);
  }

  void run(int iterations, float* q) {
    for (auto& filter : filters_) filter->scratch.clear();
    for (int i = 0; i <= iterations; ++i) {
      const bool first = i == 0, last = i == iterations;
      if (!first)
        for (auto& filter : filters_) filter->turn();
      for (std::size_t begin = 0; begin < pixels_; begin += kBlock)
        update(begin, std::min(pixels_, begin + kBlock), first, last ? q : nullptr);
    }
    if (!finite_) throw std::overflow_error("a sum of energies left the range of float32");
  }

 private:
  static constexpr std::size_t kBlock = 64;

  // scores_ = -unary, pixel after pixel; minus infinity in the unused lanes.
  void load(const float* unary) {
    const std::size_t lanes = width_ * kLanes;
    for (std::size_t begin = 0; begin < pixels_; begin += kBlock) {
      const std::size_t count = std::min(kBlock, pixels_ - begin);
      float* row = reinterpret_cast<float*>(scores_[begin]);
      for (std::size_t label = 0; label < lanes; ++label)
        for (std::size_t i = 0; i < count; ++i)
          row[i * lanes + label] = label < labels_ ? -unary[label * pixels_ + begin + i]
                                                   : -std::numeric_limits<float>::infinity();
    }
  }

  // The new Q of a block of pixels. It goes straight on to the lattices, or, at the end, to q.
  void update(std::size_t begin, std::size_t end, bool first, float* q) {
    for (std::size_t pixel = begin; pixel < end; ++pixel) {
      Vec* row = block_[pixel - begin];
      std::copy_n(scores_[pixel], width_, row);
      if (!first)
        for (auto& filter : filters_) filter->apply(pixel, row);
      finite_ &= softmax(row, width_, labels_);
      if (q == nullptr)
        for (auto& filter : filters_) filter->add(pixel, row);
    }
    if (q != nullptr) store(begin, end, q);
  }

  void store(std::size_t begin, std::size_t end, float* q) const {
    for (std::size_t label = 0; label < labels_; ++label)
      for (std::size_t pixel = begin; pixel < end; ++pixel)
        q[label * pixels_ + pixel] =
            reinterpret_cast<const float*>(block_[pixel - begin])[label];
  }

  std::size_t labels_, pixels_, width_;
  Rows<Vec> scores_, block_;
  std::vector<std::unique_ptr<Filter>> filters_;
  bool finite_ = true;
};

// K 1: what the kernel makes of a constant one.
std::vector<float> filtered_ones(const Lattice& lattice) {
  Rows<float> values(lattice.rows(), 1), scratch(lattice.rows(), 1);
  values.clear();
  const float one = 1.0f;
  for (std::size_t pixel = 0; pixel < lattice.pixels(); ++pixel)
    splat(lattice, pixel, &one, values);
  blur(lattice, values, scratch);
  std::vector<float> result(lattice.pixels(), 0.0f);
  for (std::size_t pixel = 0; pixel < lattice.pixels(); ++pixel)
    slice(lattice, pixel, 1.0f, values, &result[pixel]);
  return result;
}

}  // namespace

Kernel::Kernel(const float* features, std::size_t pixels, int dimension, float weight,
               Normalization normalization)
    : lattice_(features, pixels, dimension), weight_(weight), normalization_(normalization) {
  const FlushDenormals flush;
  factor_ = filtered_ones(lattice_);
  for (float& factor : factor_)
    factor = normalization == Normalization::kAfter
                 ? 1.0f / (factor + 1e-20f)
                 : static_cast<float>(1.0 / std::sqrt(static_cast<double>(factor) + 1e-20));
}

void mean_field(const float* unary, std::size_t labels, std::size_t pixels,
                const std::vector<const Kernel*>& kernels, int iterations, float* q) {
  const FlushDenormals flush;
  MeanField(unary, labels, pixels, kernels).run(iterations, q);
}

}  // namespace caffe_port::crf
