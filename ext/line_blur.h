// The blur over a lattice whose vertices are stored in lines, along all axes in one pass.
#pragma once

#include <cstddef>
#include <vector>

#include "buffer.h"
#include "lattice.h"
#include "paths.h"

namespace caffe_port::crf {

// Blurs a part of the lines. The stages follow each other at the distance of neighbours: after the
// first axis is blurred in a line, the second follows in the line before, and so on. The output of a
// stage is still in the cache when the next one reads it, and the last one overwrites the sums.
// Parts overlap by a few lines: a part computes what it needs of another part itself, from sums that
// it copies before the others write.
class LineBlur {
 public:
  LineBlur(const Lattice& lattice, std::size_t width, const RowLoops& loops, bool adjoint, int part,
           int parts);

  // Copies the sums that this part needs of others. All parts must do so before one of them runs.
  void take_aside(const float* sums);
  // Replaces the part's sums by blurred values.
  void run(float* sums);

 private:
  // A blur along one axis.
  struct Stage {
    int axis;
    std::size_t reach, lag;  // lines to neighbours; lines behind the newest sums
    std::size_t begin, end;  // lines to blur
    float* rows;             // the last 2 reach + 1 lines of what it reads
  };

  const float* sums_of(std::size_t line, const float* sums) const;
  float* line(std::size_t stage, std::size_t line);
  void blur(std::size_t stage, std::size_t line, float* sums);

  const Lattice& lattice_;
  std::size_t width_, pitch_;  // pitch: floats from line to line
  const RowLoops& loops_;
  std::size_t begin_, end_;    // the part
  std::size_t from_, to_;      // lines whose sums it needs
  std::size_t overlap_ = 0;    // lines, on either side
  std::vector<Stage> stages_;
  Buffer rows_, aside_, zeros_;
};

}  // namespace caffe_port::crf
