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

constexpr int kMostInLines = 2;  // dimensions

// Vertices, each with a row of values, and their neighbours. Up to two dimensions vertices are stored
// in lines (for an image's positions: its rows), one after the other, such that neighbours are one or
// a few lines apart; in more dimensions, in the order in which pixels first use them. The twins
// follow: a vertex of several chunks of pixels has a row for each of them, so that no two threads add
// to the same row. Pixels are numbered in the order given.
class Lattice {
 public:
  // Throws std::invalid_argument (dimension, number of pixels) and std::range_error (a feature so
  // large that a vertex leaves the 16-bit range of coordinates).
  Lattice(const Features& features, const PixelOrder& order, int threads);

  std::size_t vertices() const { return vertices_; }
  std::size_t rows() const { return rows_; }
  float alpha() const { return alpha_; }
  int axes() const { return dimension_ + 1; }
  Pixels corners(std::size_t first, std::size_t count) const {
    return {corners_ptr() + first * (dimension_ + 1), dimension_ + 1, count};
  }
  // Rows that a chunk's run of pixels is the first to meet, and those of vertices that no run meets.
  Rows met_first(int chunk, std::size_t run) const {
    const std::vector<std::size_t>& met = met_[chunk];
    const std::size_t begin = run == 0 ? 0 : met[run - 1];
    const std::size_t more = run + 1 < met.size() ? met[run + 1] - met[run] : 0;
    return {row_[chunk].data() + begin, met[run] - begin, more};
  }
  Rows unmet() const { return {unmet_.data(), unmet_.size(), 0}; }
  // A vertex' twins are in one of kChunks groups, in the order of the chunks.
  const std::vector<Twins>& twins(int group) const { return twins_[group]; }

  bool in_lines() const { return dimension_ <= kMostInLines; }
  std::size_t lines() const { return begins_.size() - 1; }
  std::size_t begin(std::size_t line) const { return begins_[line]; }
  std::size_t longest_line() const;
  // How many lines away the neighbours along an axis are.
  std::size_t reach(int axis) const { return axis == dimension_ ? dimension_ : 1; }
  const Neighbours* neighbours(int axis) const { return neighbours_[axis].data(); }  // by vertex

  // Where not in lines: the vertices that have neighbours along an axis, shared out in parts that
  // are whole chains.
  Chains chains(int axis, int part, int parts) const;

 private:
  template <class Packing>
  struct Builder;
  template <class Packing>
  bool build(const Features& features, const PixelOrder& order, int threads);
  const Corner* corners_ptr() const { return reinterpret_cast<const Corner*>(corners_.data()); }
  Corner* corners_ptr() { return reinterpret_cast<Corner*>(corners_.data()); }

  std::size_t pixels_, vertices_ = 0, rows_ = 0;
  int dimension_;
  float alpha_ = 0;
  Buffer corners_;
  std::vector<std::int32_t> row_[kChunks];  // by chunk, by its own number of the vertex
  std::vector<std::size_t> met_[kChunks];   // by chunk and run: how many its pixels have met in the end
  std::vector<std::int32_t> unmet_;
  std::vector<Twins> twins_[kChunks];               // by group
  std::vector<std::size_t> begins_;                  // by line
  std::vector<std::vector<Neighbours>> neighbours_;  // by axis
  std::vector<std::vector<std::int32_t>> chains_;    // by axis
};

}  // namespace caffe_port::crf
