// The inner loops, compiled once for each instruction set; the best one is chosen at run time.
// Those of exact results give the same bits.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>

namespace caffe_port::crf {

constexpr int kMaxDimension = 16;
constexpr int kGroup = 8;  // pixels that are located at once

// One of the d + 1 vertices around a feature vector, and its barycentric weight.
struct Corner {
  std::int32_t row;
  float weight;
};

// The simplices around a group of feature vectors: the vertex of remainder 0 and, for each
// coordinate, the rank of its residue (0 the largest), which determine the other d.
struct Simplices {
  std::int32_t origin[kMaxDimension + 1][kGroup];
  std::int32_t rank[kMaxDimension + 1][kGroup];
  float weight[kMaxDimension + 1][kGroup];  // of vertex 0 to d
};

// Consecutive pixels of a lattice.
struct Pixels {
  const Corner* corners;
  int corner_count;
  std::size_t count;
};

// Vertices in an order in which each axis' neighbours follow each other; ~vertex begins a chain.
struct Chains {
  const std::int32_t *begin, *end;
};

// The neighbours of a vertex along an axis: their places in the lines before and after its own, or -1.
struct Neighbours {
  std::int32_t before, after;
};

// A line of vertices and the two that hold their neighbours.
struct Line {
  const Neighbours* neighbours;
  std::size_t count;
  const float *own, *before, *after;  // rows
  const float* zeros;                 // a row of them
};

// Numbers of rows, and how many more follow that are needed next.
struct Rows {
  const std::int32_t* begin;
  std::size_t count, more;
};

// A vertex' row, and its row in the second chunk of pixels.
struct Twins {
  std::int32_t row, twin;
};

enum class Exponential {
  kExact,    // DeepLab's own polynomial, sums in its order; exactly 0 below -20
  kCutOff,   // exactly 0 below -20
  kClamped,  // of finite arguments below -87 that of -87, as in pydensecrf
};

// Loops over rows of width floats. A row is read and written in whole, unused lanes included.
struct RowLoops {
  // rows[i] = start[i] + weight factor[i] alpha (values at the corners of pixel i); factor may be
  // null, and start be rows.
  void (*slice)(Pixels pixels, const float* values, float alpha, float weight, const float* factor,
                const float* start, float* rows, std::size_t width);
  // sums at the corners of pixel i += factor[i] rows[i]; factor may be null.
  void (*splat)(Pixels pixels, const float* rows, const float* factor, float* sums,
                std::size_t width);
  void (*clear)(Rows rows, float* values, std::size_t width);
  // Adds the twins to the rows; and copies the rows to the twins.
  void (*join)(const Twins* twins, std::size_t count, float* values, std::size_t width);
  void (*part)(const Twins* twins, std::size_t count, float* values, std::size_t width);
  // Blurs along chains with (1/2, 1, 1/2), in place.
  void (*blur_chains)(Chains chains, float* values, std::size_t width);
  // The same of one line: rows = own + (before + after) / 2.
  void (*blur_line)(Line line, float* rows, std::size_t width);
  // rows[i] = softmax(rows[i]), in place. Unused lanes must be minus infinity and become 0. Returns
  // false when a row held no finite largest value, and its content means nothing.
  bool (*softmax)(Exponential kind, std::size_t count, std::size_t labels, float* rows,
                  std::size_t width);
};

// For rows of 4, 8, 16, 24, 32 floats, and for longer ones.
struct RowLoopsByWidth {
  RowLoops rows_4, rows_8, rows_16, rows_24, rows_32, rows_many;
};

// The same pixels of several planes, one for each label.
template <class Float>
struct Planes {
  Float* data;
  std::size_t stride, labels, count;
};

struct Path {
  const char* name;
  // features: d rows of kGroup floats. False when a coordinate exceeds the limit or is not a number.
  // By dimension, less one.
  bool (*locate[kMaxDimension])(const float* features, float limit, Simplices& found);
  RowLoopsByWidth loops[2];  // those that may fuse products into sums, and exact ones
  // rows = sign planes; unused lanes get a value of their own.
  void (*to_rows)(const Planes<const float>& planes, float sign, float unused, float* rows,
                  std::size_t width);
  void (*to_planes)(const float* rows, std::size_t width, const Planes<float>& planes);
  // Bring planes, or consecutive floats, closer.
  void (*fetch_planes)(const Planes<const float>& planes);
  void (*fetch_rows)(const float* rows, std::size_t count);
  void (*exponential)(Exponential kind, const float* x, float* y, std::size_t count);
};

// The best path of this machine, or the one chosen for the process by choose_path.
const Path& path();
// Takes "best" or a path's name (for tests); false when this machine or build does not have it.
bool choose_path(const char* name);

// The number of floats of a row that holds so many labels, and the loops over such rows.
inline std::size_t row_width(std::size_t labels) {
  const std::size_t unit = labels <= 4 ? 4 : labels <= 32 ? 8 : 32;
  return (labels + unit - 1) / unit * unit;
}
const RowLoops& row_loops(std::size_t width, bool exact);

}  // namespace caffe_port::crf
