// Exponential and normalisation as libDenseCRF does them.
#pragma once

#include "rows.h"

namespace caffe_port::crf {

// e^v for v <= 0, and exactly 0 below -20.
// The argument is halved until it is at most 0.69, the polynomial of Abramowitz and Stegun,
// "Handbook of Mathematical Functions", 4.2.45, is evaluated and its value squared as often.
inline Vec exp_negative(const Vec& v) {
  constexpr int halvings = 5;  // 20 / 2^5 < 0.69
  const Vec x = -v;
  Mask above[halvings], count{};
  for (int i = 0; i < halvings; ++i) {
    above[i] = x > 0.69f * static_cast<float>(1 << i);
    count += above[i];  // -1 where true
  }
  const Mask exponent = (count + 127) << 23;
  const Vec y = x * (Vec)exponent;
  Vec e = 0.0013298820f - y * 0.0001413161f;
  e = 0.0083013598f - y * e;
  e = 0.0416573475f - y * e;
  e = 0.1666653019f - y * e;
  e = 0.4999999206f - y * e;
  e = 0.9999999995f - y * e;
  e = 1.0f - y * e;
  for (int i = 0; i < halvings; ++i) e = above[i] ? e * e : e;
  return x > 20.0f ? Vec{} : e;
}

inline float largest(const Vec* row, std::size_t width) {
  Vec top = row[0];
  for (std::size_t k = 1; k < width; ++k) top = row[k] > top ? row[k] : top;
  float result = top[0];
  for (int lane = 1; lane < kLanes; ++lane) result = top[lane] > result ? top[lane] : result;
  return result;
}

// In place. Unused lanes must be minus infinity; they become 0.
// Returns false when the row held no finite largest value, and its content means nothing.
inline bool softmax(Vec* row, std::size_t width, std::size_t labels) {
  const float top = largest(row, width);
  for (std::size_t k = 0; k < width; ++k) row[k] = exp_negative(row[k] - top);
  const float* lane = reinterpret_cast<const float*>(row);
  float sum = 0.0f;
  for (std::size_t label = 0; label < labels; ++label) sum += lane[label];
  for (std::size_t k = 0; k < width; ++k) row[k] /= sum;
  return sum >= 1.0f;
}

}  // namespace caffe_port::crf
