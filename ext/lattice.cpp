#include "lattice.h"

#include <cmath>
#include <limits>
#include <stdexcept>
#include <string>

#include "float_state.h"
#include "key_table.h"

namespace caffe_port::crf {
namespace {

// The simplex around one feature vector: its vertex of colour 0 and, for each coordinate, the
// rank of its residue (0 the largest), which say everything about the other d vertices.
template <int D>
class Simplex {
 public:
  // Returns false when a coordinate is out of range (or not a number).
  bool locate(const float* feature, const std::array<float, D>& scale) {
    if (!elevate(feature, scale)) return false;
    const float sum = round();
    order(static_cast<int>(sum));
    return true;
  }

  // weights[m] belongs to vertex m.
  void weigh(std::array<float, D + 1>& weights) const {
    std::array<float, D + 1> sorted;
    for (int i = 0; i <= D; ++i) sorted[rank_[i]] = (elevated_[i] - origin_[i]) * kInverse;
    weights[0] = sorted[D] + (1.0f - sorted[0]);
    for (int m = 1; m <= D; ++m) weights[m] = sorted[D - m] - sorted[D - m + 1];
  }

  Key<D> vertex(int m) const {
    Key<D> key;
    for (int i = 0; i < D; ++i) {
      const int step = rank_[i] <= D - m ? m : m - (D + 1);
      key.at[i] = static_cast<std::int16_t>(static_cast<int>(origin_[i]) + step);
    }
    return key;
  }

 private:
  static constexpr float kInverse = 1.0f / (D + 1);
  // Rounding, wrapping, the step to a vertex and the one to its neighbour each move a coordinate
  // by at most d + 1.
  static constexpr float kLimit = std::numeric_limits<std::int16_t>::max() - 4 * (D + 1);

  bool elevate(const float* feature, const std::array<float, D>& scale) {
    float sum = 0.0f;
    bool inside = true;
    for (int j = D; j > 0; --j) {
      const float scaled = feature[j - 1] * scale[j - 1];
      elevated_[j] = sum - static_cast<float>(j) * scaled;
      sum += scaled;
      inside &= std::abs(elevated_[j]) <= kLimit;
    }
    elevated_[0] = sum;
    return inside & (std::abs(sum) <= kLimit);
  }

  // The nearest point whose coordinates are multiples of d + 1. It may lie off the plane.
  float round() {
    // Adding and subtracting 1.5 * 2^23 rounds to the nearest integer, ties to even.
    constexpr float magic = 12582912.0f;
    float sum = 0.0f;
    for (int i = 0; i <= D; ++i) {
      const float multiple = (kInverse * elevated_[i] + magic) - magic;
      origin_[i] = multiple * (D + 1);
      sum += multiple;
    }
    return sum;
  }

  // Ranks the residues, and brings the point back to the plane when its sum is not zero.
  void order(int sum) {
    std::array<float, D + 1> residue;
    for (int i = 0; i <= D; ++i) residue[i] = elevated_[i] - origin_[i];
    rank_.fill(sum);
    for (int i = 0; i < D; ++i)
      for (int j = i + 1; j <= D; ++j) {
        const int less = residue[i] < residue[j];
        rank_[i] += less;
        rank_[j] += 1 - less;
      }
    for (int i = 0; i <= D; ++i) {
      const int wrap = rank_[i] < 0 ? D + 1 : rank_[i] > D ? -(D + 1) : 0;
      rank_[i] += wrap;
      origin_[i] += static_cast<float>(wrap);
    }
  }

  std::array<float, D + 1> elevated_, origin_;
  std::array<int, D + 1> rank_;
};

// Scales that make one blur a Gaussian of unit width in feature space.
template <int D>
std::array<float, D> scales() {
  const float deviation = static_cast<float>(std::sqrt(2.0 / 3.0) * (D + 1));
  std::array<float, D> result;
  for (int i = 0; i < D; ++i)
    result[i] = static_cast<float>(1.0 / std::sqrt((i + 2.0) * (i + 1.0)) * deviation);
  return result;
}

template <int D>
std::vector<Neighbours> link(const KeyTable<D>& table) {
  const std::size_t vertices = table.size();
  std::vector<Neighbours> result((D + 1) * vertices, Neighbours{0, 0});
  for (int axis = 0; axis <= D; ++axis) {
    Neighbours* near = result.data() + axis * vertices;
    for (std::size_t i = 0; i < vertices; ++i) {
      Key<D> key = table.key(i);
      for (int k = 0; k < D; ++k) key.at[k] += k == axis ? D : -1;
      const std::int32_t found = table.find(key);
      if (found == KeyTable<D>::kNone) continue;
      near[i].previous = found + 1;
      near[found].next = static_cast<std::int32_t>(i) + 1;
    }
  }
  return result;
}

}  // namespace

template <int D>
void Lattice::build(const float* features) {
  const std::array<float, D> scale = scales<D>();
  KeyTable<D> table;
  Simplex<D> simplex;
  std::array<float, D + 1> weights;
  corners_.resize(pixels_ * (D + 1));
  Corner* corner = corners_.data();
  for (std::size_t pixel = 0; pixel < pixels_; ++pixel) {
    if (!simplex.locate(features + pixel * D, scale))
      throw std::range_error("pixel " + std::to_string(pixel) + ": its features leave the range");
    simplex.weigh(weights);
    for (int m = 0; m <= D; ++m)
      *corner++ = {table.insert(simplex.vertex(m)) + 1, weights[m]};
  }
  // The original works on four pixels at a time and pads the last group with zero features.
  // These carry no value, but their vertices take part in the blur.
  if (pixels_ % 4 != 0) {
    const std::array<float, D> zero{};
    simplex.locate(zero.data(), scale);
    for (int m = 0; m <= D; ++m) table.insert(simplex.vertex(m));
  }
  vertices_ = table.size();
  neighbours_ = link<D>(table);
}

Lattice::Lattice(const float* features, std::size_t pixels, int dimension)
    : pixels_(pixels),
      dimension_(dimension),
      alpha_(1.0f / (1.0f + std::pow(2.0f, static_cast<float>(-dimension)))) {
  if (dimension < 1 || dimension > kMaxDimension)
    throw std::invalid_argument("a lattice has 1 to 8 dimensions");
  constexpr std::size_t most = std::numeric_limits<std::int32_t>::max() - kMaxDimension - 2;
  if (pixels == 0 || pixels > most / (dimension + 1))
    throw std::invalid_argument("no pixels, or too many for 32-bit vertex numbers");
  const FlushDenormals flush;
  using Build = void (Lattice::*)(const float*);
  constexpr Build builds[kMaxDimension] = {
      &Lattice::build<1>, &Lattice::build<2>, &Lattice::build<3>, &Lattice::build<4>,
      &Lattice::build<5>, &Lattice::build<6>, &Lattice::build<7>, &Lattice::build<8>};
  (this->*builds[dimension - 1])(features);
}

}  // namespace caffe_port::crf
