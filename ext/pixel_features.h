// The feature vectors of pixels: given as they are, or made from positions and colours.
#pragma once

#include <cstddef>
#include <cstdint>

#include "paths.h"

namespace caffe_port::crf {

struct Features {
  std::size_t height = 0, width = 0;
  int dimension = 0;

  // Either height x width x dimension floats, ...
  const float* rows = nullptr;

  // ... or (x / sx, y / sy), followed, if there is an image, by its colours (height x width x 3, bytes
  // or floats) over their widths.
  float position_width[2] = {};
  const std::uint8_t* bytes = nullptr;
  const float* floats = nullptr;
  float colour_width[3] = {};

  // The vectors of count <= kGroup pixels of a row of the image, as dimension rows of kGroup. The
  // places left over get those of the last.
  void load(std::size_t first, int count, float* into) const {
    const std::size_t x = first % width, y = first / width;
    for (int i = 0; i < kGroup; ++i) {
      const int from = i < count ? i : count - 1;
      if (rows != nullptr) {
        for (int j = 0; j < dimension; ++j)
          into[j * kGroup + i] = rows[(first + from) * dimension + j];
        continue;
      }
      into[i] = static_cast<float>(x + from);
      into[kGroup + i] = static_cast<float>(y);
      for (int j = 2; j < dimension; ++j) {
        const std::size_t colour = 3 * (first + from) + j - 2;
        into[j * kGroup + i] = bytes != nullptr ? static_cast<float>(bytes[colour]) : floats[colour];
      }
    }
    if (rows != nullptr) return;
    for (int j = 0; j < dimension; ++j) {
      const float by = j < 2 ? position_width[j] : colour_width[j - 2];
      for (int i = 0; i < kGroup; ++i) into[j * kGroup + i] /= by;
    }
  }
};

}  // namespace caffe_port::crf
