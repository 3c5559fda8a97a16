// The order in which the pixels of an image are processed.
#pragma once

#include <algorithm>
#include <cstddef>
#include <vector>

#include "paths.h"

namespace caffe_port::crf {

constexpr std::size_t kMostInRun = 64;
constexpr int kChunks = 8;

// Consecutive pixels of a row of the image, which are at begin and after in the order.
struct Run {
  std::size_t begin, pixel, count;
};

// Row after row of a strip, strip after strip, so that rows shared by neighbours stay in the first
// caches. The order is divided into fixed chunks, one below the other: up to that many threads can
// work, and results do not depend on their number. Exact: row after row, in one chunk, as the original.
class PixelOrder {
 public:
  PixelOrder(std::size_t height, std::size_t width, bool exact) {
    const auto top = [=](int chunk) { return exact && chunk > 0 ? height : height * chunk / kChunks; };
    for (int chunk = 0; chunk < kChunks; ++chunk)
      append(runs_[chunk], top(chunk), top(chunk + 1), width, exact);
  }

  const std::vector<Run>& runs(int chunk) const { return runs_[chunk]; }

 private:
  static void append(std::vector<Run>& runs, std::size_t top, std::size_t bottom,
                     std::size_t width, bool exact) {
    const std::size_t strip = exact ? width : kMostInRun;
    std::size_t begin = top * width;
    for (std::size_t left = 0; left < width; left += strip)
      for (std::size_t y = top; y < bottom; ++y)
        for (std::size_t x = left; x < std::min(left + strip, width); x += kMostInRun) {
          const std::size_t count = std::min(std::min(kMostInRun, left + strip - x), width - x);
          runs.push_back({begin, y * width + x, count});
          begin += count;
        }
  }

  std::vector<Run> runs_[kChunks];
};

}  // namespace caffe_port::crf
