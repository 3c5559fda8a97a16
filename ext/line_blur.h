// The blur over a lattice whose vertices stand in lines, along all axes in one go.
#pragma once

#include <cstddef>
#include <vector>

#include "buffer.h"
#include "lattice.h"
#include "paths.h"

namespace caffe_port::crf {

// Works off a part of the lines. Stage follows stage at the distance that neighbours need: when the
// first axis has been blurred in a line, the second follows in the line before, and so on. What one
// stage wrote is still in the cache when the next reads it, and the last writes where the sums were.
// Parts overlap by a few lines: what a part needs of another's it computes itself, from sums that
// it takes aside before the others write.
class LineBlur {
 public:
  LineBlur(const Lattice& lattice, std::size_t width, const RowLoops& loops, bool adjoint, int part,
           int parts);

  // Takes aside what the part needs of others. All parts must have done so before one of them runs.
  void take_aside(const float* sums);
  // The part's sums become blurred values.
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
