#include "buffer.h"

#include <algorithm>
#include <cstdint>
#include <limits>
#include <mutex>
#include <new>
#include <vector>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace caffe_port::crf {
namespace {

constexpr std::size_t kHugePage = std::size_t{1} << 21, kLine = 64;
constexpr std::size_t kMostKept = std::size_t{256} << 20;  // bytes

struct Block {
  float* data;
  std::size_t capacity;  // bytes
};

std::align_val_t alignment(std::size_t capacity) {
  return std::align_val_t{capacity >= kHugePage ? kHugePage : kLine};
}

void release(const Block& block) { ::operator delete(block.data, alignment(block.capacity)); }

// Released blocks, the latest last. Fresh memory costs a page fault every 4 KB.
class Shelf {
 public:
  // A block of at least the capacity and at most twice it, or none.
  Block take(std::size_t capacity) {
    const std::lock_guard<std::mutex> guard(mutex_);
    for (auto block = blocks_.rbegin(); block != blocks_.rend(); ++block)
      if (block->capacity >= capacity && block->capacity <= 2 * capacity) {
        const Block found = *block;
        blocks_.erase(std::next(block).base());
        kept_ -= found.capacity;
        return found;
      }
    return {nullptr, 0};
  }

  void give(const Block& block) noexcept {
    const std::lock_guard<std::mutex> guard(mutex_);
    if (block.capacity > kMostKept || blocks_.size() == blocks_.capacity()) return release(block);
    blocks_.push_back(block);
    kept_ += block.capacity;
    while (kept_ > kMostKept) {
      kept_ -= blocks_.front().capacity;
      release(blocks_.front());
      blocks_.erase(blocks_.begin());
    }
  }

  Shelf() { blocks_.reserve(64); }

 private:
  std::mutex mutex_;
  std::vector<Block> blocks_;
  std::size_t kept_ = 0;
};

Shelf& shelf() {
  static Shelf* const all = new Shelf;  // never destroyed: threads may outlive static objects
  return *all;
}

Block fresh(std::size_t capacity) {
  void* const data = ::operator new(capacity, alignment(capacity));
#if defined(__linux__) && defined(MADV_HUGEPAGE)
  if (capacity >= kHugePage) madvise(data, capacity, MADV_HUGEPAGE);
#endif
  return {static_cast<float*>(data), capacity};
}

}  // namespace

Buffer::Buffer(std::size_t floats) : floats_(floats) {
  constexpr std::size_t most = std::numeric_limits<std::ptrdiff_t>::max() / sizeof(float);
  if (floats > most - kHugePage) throw std::bad_alloc();
  const std::size_t bytes = std::max(floats * sizeof(float), kLine);
  const std::size_t unit = bytes >= kHugePage ? kHugePage : kLine;
  const std::size_t capacity = (bytes + unit - 1) / unit * unit;
  Block block = shelf().take(capacity);
  if (block.data == nullptr) block = fresh(capacity);
  data_ = block.data;
  capacity_ = block.capacity;
}

Buffer::~Buffer() { shelf().give({data_, capacity_}); }

}  // namespace caffe_port::crf
