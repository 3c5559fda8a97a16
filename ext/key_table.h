// The vertices of a lattice: a hash set of integer points, numbered in order of arrival.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

namespace caffe_port::crf {

// The first D coordinates of a vertex (the last follows: all d + 1 sum to zero). They are padded
// with zeros to whole 64-bit words, so that hashing and comparing take one or two steps.
template <int D>
struct Key {
  static constexpr int kWords = (D + 3) / 4;
  std::array<std::int16_t, 4 * kWords> at{};

  std::array<std::uint64_t, kWords> words() const {
    std::array<std::uint64_t, kWords> result;
    std::memcpy(result.data(), at.data(), sizeof(result));
    return result;
  }
  bool operator==(const Key& other) const { return words() == other.words(); }

  std::uint64_t hash() const {
    std::uint64_t mixed = 0;
    for (std::uint64_t word : words()) {
      mixed = (mixed ^ word) * 0x9E3779B97F4A7C15u;
      mixed ^= mixed >> 32;
    }
    return mixed * 0xD6E8FEB86659FD93u;
  }
};

// Open addressing with linear probing; at most half of the slots are in use.
template <int D>
class KeyTable {
 public:
  static constexpr std::int32_t kNone = -1;

  KeyTable() : slots_(std::size_t{1} << kFirstBits, kNone), shift_(64 - kFirstBits) {}

  std::size_t size() const { return keys_.size(); }
  const Key<D>& key(std::size_t index) const { return keys_[index]; }

  std::int32_t find(const Key<D>& key) const { return slots_[slot_of(key)]; }

  std::int32_t insert(const Key<D>& key) {
    std::size_t slot = slot_of(key);
    if (slots_[slot] != kNone) return slots_[slot];
    if (2 * (keys_.size() + 1) > slots_.size()) {
      grow();
      slot = slot_of(key);
    }
    slots_[slot] = static_cast<std::int32_t>(keys_.size());
    keys_.push_back(key);
    return slots_[slot];
  }

 private:
  static constexpr int kFirstBits = 12;

  // The slot that holds the key, or the free one where it belongs.
  std::size_t slot_of(const Key<D>& key) const {
    std::size_t slot = key.hash() >> shift_;
    while (slots_[slot] != kNone && !(keys_[slots_[slot]] == key))
      slot = (slot + 1) & (slots_.size() - 1);
    return slot;
  }

  void grow() {
    slots_.assign(2 * slots_.size(), kNone);
    --shift_;
    for (std::size_t i = 0; i < keys_.size(); ++i)
      slots_[slot_of(keys_[i])] = static_cast<std::int32_t>(i);
  }

  std::vector<Key<D>> keys_;
  std::vector<std::int32_t> slots_;
  int shift_;
};

}  // namespace caffe_port::crf
