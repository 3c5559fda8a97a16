// Memory for rows of floats, reused for the next image after it is released.
#pragma once

#include <cstddef>
#include <cstring>

namespace caffe_port::crf {

// Aligned to a cache line (large ones to a huge page, and asked to be in such), not initialised.
// Safe to make and to end in any thread. Throws std::bad_alloc.
class Buffer {
 public:
  explicit Buffer(std::size_t floats);
  ~Buffer();
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;

  float* data() { return data_; }
  const float* data() const { return data_; }
  void clear() { std::memset(data_, 0, floats_ * sizeof(float)); }

 private:
  std::size_t floats_, capacity_;
  float* data_;
};

}  // namespace caffe_port::crf
