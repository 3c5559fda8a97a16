// The permutohedral lattice of a set of feature vectors, and filtering over it.
//
// Method: Adams, Baek, Davis, "Fast High-Dimensional Filtering Using the Permutohedral Lattice",
// Eurographics 2010. Arithmetic and order of operations: libDenseCRF as released with DeepLab.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "rows.h"

namespace caffe_port::crf {

constexpr int kMaxDimension = 8;

// One of the d + 1 vertices around a feature vector, and its barycentric weight.
struct Corner {
  std::int32_t row;
  float weight;
};

// The two neighbours of a vertex along one axis; row 0 stands for a missing one.
struct Neighbours {
  std::int32_t previous, next;
};

class Lattice {
 public:
  // features: pixels x dimension, pixel after pixel.
  // Throws std::invalid_argument (dimension, number of pixels) and std::range_error (a feature so
  // large that a vertex leaves the 16-bit range of coordinates).
  Lattice(const float* features, std::size_t pixels, int dimension);

  std::size_t pixels() const { return pixels_; }
  std::size_t vertices() const { return vertices_; }
  // Rows a buffer of vertex values has: row 0 stays zero, vertex i is row i + 1.
  std::size_t rows() const { return vertices_ + 1; }
  int corner_count() const { return dimension_ + 1; }
  float alpha() const { return alpha_; }
  const Corner* corners(std::size_t pixel) const {
    return corners_.data() + pixel * corner_count();
  }
  const Neighbours* neighbours(int axis) const { return neighbours_.data() + axis * vertices_; }

 private:
  template <int D>
  void build(const float* features);

  std::size_t pixels_, vertices_ = 0;
  int dimension_;
  float alpha_;
  std::vector<Corner> corners_;
  std::vector<Neighbours> neighbours_;
};

// values += the pixel's value, spread over its vertices.
template <class V>
inline void splat(const Lattice& lattice, std::size_t pixel, const V* value, Rows<V>& values) {
  const Corner* corner = lattice.corners(pixel);
  for (int j = 0; j < lattice.corner_count(); ++j) {
    V* into = values[corner[j].row];
    for (std::size_t k = 0; k < values.width(); ++k) into[k] += corner[j].weight * value[k];
  }
}

// row += factor times the pixel's filtered value, read off its vertices.
template <class V>
inline void slice(const Lattice& lattice, std::size_t pixel, float factor, const Rows<V>& values,
                  V* row) {
  const Corner* corner = lattice.corners(pixel);
  const V* from[kMaxDimension + 1];
  float weight[kMaxDimension + 1];
  for (int j = 0; j < lattice.corner_count(); ++j) {
    from[j] = values[corner[j].row];
    weight[j] = corner[j].weight * lattice.alpha();
  }
  for (std::size_t k = 0; k < values.width(); ++k) {
    V sum{};
    for (int j = 0; j < lattice.corner_count(); ++j) sum += weight[j] * from[j][k];
    row[k] += factor * sum;
  }
}

// One pass of (1/2, 1, 1/2) along each axis in turn. The result is in values.
template <class V>
void blur(const Lattice& lattice, Rows<V>& values, Rows<V>& scratch) {
  const std::size_t width = values.width();
  scratch.clear_row(0);
  for (int axis = 0; axis < lattice.corner_count(); ++axis) {
    const Neighbours* near = lattice.neighbours(axis);
    for (std::size_t i = 0; i < lattice.vertices(); ++i) {
      const V *old = values[i + 1], *previous = values[near[i].previous],
              *next = values[near[i].next];
      V* into = scratch[i + 1];
      for (std::size_t k = 0; k < width; ++k) into[k] = old[k] + 0.5f * (previous[k] + next[k]);
    }
    values.swap(scratch);
  }
}

}  // namespace caffe_port::crf
