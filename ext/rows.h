// Rows of floats and the vectors they are made of.
//
// A row holds one float per label, padded with unused lanes to whole vectors. Every loop over
// labels is written once, for an element type V: Vec for many labels, float for a single one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <new>

namespace caffe_port::crf {

constexpr int kLanes = 4;
typedef float Vec __attribute__((vector_size(4 * kLanes)));
typedef std::int32_t Mask __attribute__((vector_size(4 * kLanes)));

// count rows of width elements, aligned to a cache line, not initialised.
template <class V>
class Rows {
 public:
  Rows(std::size_t count, std::size_t width) : count_(count), width_(width) {
    constexpr std::size_t most = std::numeric_limits<std::ptrdiff_t>::max() / sizeof(V);
    if (width == 0 || count > most / width) throw std::bad_alloc();
    data_ = static_cast<V*>(::operator new(bytes(), kAlignment));
  }
  ~Rows() { ::operator delete(data_, kAlignment); }
  Rows(const Rows&) = delete;
  Rows& operator=(const Rows&) = delete;

  V* operator[](std::size_t row) { return data_ + row * width_; }
  const V* operator[](std::size_t row) const { return data_ + row * width_; }
  std::size_t width() const { return width_; }
  void clear() { std::memset(static_cast<void*>(data_), 0, bytes()); }
  void clear_row(std::size_t row) { std::memset(static_cast<void*>((*this)[row]), 0, row_bytes()); }
  void swap(Rows& other) {
    V* mine = data_;
    data_ = other.data_;
    other.data_ = mine;
  }

 private:
  static constexpr std::align_val_t kAlignment{64};
  std::size_t row_bytes() const { return width_ * sizeof(V); }
  std::size_t bytes() const { return count_ * row_bytes(); }

  std::size_t count_, width_;
  V* data_;
};

}  // namespace caffe_port::crf
