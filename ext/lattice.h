// The permutohedral lattice of a set of feature vectors.
//
// Method: Adams, Baek, Davis, "Fast High-Dimensional Filtering Using the Permutohedral Lattice",
// Eurographics 2010. Arithmetic and order of operations: libDenseCRF as released with DeepLab.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "buffer.h"
#include "pixel_features.h"
#include "pixel_order.h"
#include "paths.h"

namespace caffe_port::crf {

// The vertices, one row each: those of the first chunk alone, then those of both, then those of the
// second alone. Pixels are numbered in the order given.
class Lattice {
 public:
  // Throws std::invalid_argument (dimension, number of pixels) and std::range_error (a feature so
  // large that a vertex leaves the 16-bit range of coordinates).
  Lattice(const Features& features, const PixelOrder& order, int threads);

  std::size_t rows() const { return rows_; }
  std::int32_t first_end() const { return first_end_; }        // rows of the first chunk
  std::int32_t second_begin() const { return second_begin_; }  // from here, rows of the second
  float alpha() const { return alpha_; }
  int axes() const { return dimension_ + 1; }
  Pixels corners(std::size_t first, std::size_t count) const {
    return {corners_ptr() + first * (dimension_ + 1), dimension_ + 1, count};
  }
  // The vertices along an axis, shared out in parts that are whole chains; but for the first axis
  // without those that have no neighbour.
  ChainPart chains(int axis, int part, int parts) const;

 private:
  template <class Packing>
  bool build(const Features& features, const PixelOrder& order, int threads);
  const Corner* corners_ptr() const { return reinterpret_cast<const Corner*>(corners_.data()); }
  Corner* corners_ptr() { return reinterpret_cast<Corner*>(corners_.data()); }

  std::size_t pixels_, rows_ = 0;
  int dimension_;
  std::int32_t first_end_ = 0, second_begin_ = 0;
  float alpha_ = 0;
  Buffer corners_;
  std::vector<std::vector<std::int32_t>> chains_;  // by axis
};

}  // namespace caffe_port::crf
