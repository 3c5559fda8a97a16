// The vertices of a lattice: a hash set of packed integer points, numbered in order of arrival.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace caffe_port::crf {

typedef unsigned __int128 Wide;

// Two numbers side by side, for keys beyond 128 bits. There is no carry from one to the other.
struct Pair {
  Wide part[2];

  Pair& operator+=(const Pair& other) {
    for (int i = 0; i < 2; ++i) part[i] += other.part[i];
    return *this;
  }
  bool operator==(const Pair& other) const {
    return part[0] == other.part[0] && part[1] == other.part[1];
  }
  bool operator!=(const Pair& other) const { return !(*this == other); }
};
inline Pair operator+(Pair a, const Pair& b) { return a += b; }

// A number of which one bit is set.
template <class Number>
Number one_bit(int bit) {
  return Number{1} << bit;
}
template <>
inline Pair one_bit<Pair>(int bit) {
  Pair result = {};
  result.part[bit / 128] = Wide{1} << (bit % 128);
  return result;
}

template <class Number>
Number times(int count, Number number) {
  return static_cast<Number>(count) * number;
}
inline Pair times(int count, Pair number) {
  for (Wide& part : number.part) part = times(count, part);
  return number;
}

// How the first D coordinates of a vertex (the last follows: all d + 1 sum to zero) become one
// number: sum of c_i 2^(Bits i), modulo the number's range. That is linear, so that a step in the
// lattice adds a constant, and tells points apart while all |c_i| < 2^(Bits - 1).
template <int D, class Number, int Bits>
struct Packing {
  static_assert(D * Bits <= 8 * static_cast<int>(sizeof(Number)));
  using Key = Number;
  static constexpr int kDimension = D;
  // Rounding, wrapping, the step to a vertex and the one to its neighbour each move a coordinate
  // by at most d + 1.
  static constexpr float kLimit = (1 << (Bits - 1)) - 1 - 4 * (D + 1);

  static Key unit(int i) { return i < D ? one_bit<Key>(Bits * i) : Key{}; }
  static Key ones() {
    Key sum = {};
    for (int i = 0; i < D; ++i) sum += unit(i);
    return sum;
  }
  // The last coordinate's negative, c_0 + ... + c_(d-1), of 64-bit keys.
  static std::int32_t line(Key key) {
    constexpr int unused = 64 - Bits;
    std::int32_t sum = 0;
    for (int i = 0; i < D; ++i) {
      const auto c = static_cast<std::int32_t>(static_cast<std::int64_t>(key << unused) >> unused);
      key = static_cast<Key>(static_cast<std::int64_t>(key - static_cast<Key>(c)) >> Bits);
      sum += c;
    }
    return sum;
  }
  // From a vertex to its neighbour along an axis: all coordinates - 1, but the axis' own + d.
  static Key step(int axis) { return times(D + 1, unit(axis)) + times(-1, ones()); }
};

inline std::uint64_t mixed(std::uint64_t key) {
  key *= 0x9E3779B97F4A7C15u;
  return (key ^ (key >> 32)) * 0xD6E8FEB86659FD93u;
}
inline std::uint64_t mixed(Wide key) {
  return mixed(static_cast<std::uint64_t>(key) ^ mixed(static_cast<std::uint64_t>(key >> 64)));
}
inline std::uint64_t mixed(const Pair& key) { return mixed(key.part[0] ^ mixed(key.part[1])); }

// Open addressing with linear probing; at most half of the slots are in use.
template <class Key>
class KeyTable {
 public:
  static constexpr std::int32_t kNone = -1;

  KeyTable() : slots_(std::size_t{1} << kFirstBits, Slot{{}, kNone}), shift_(64 - kFirstBits) {}

  std::size_t size() const { return keys_.size(); }
  Key key(std::size_t index) const { return keys_[index]; }

  std::int32_t find(Key key) const { return slots_[slot_of(key)].index; }
  // Brings what find(key) will read closer.
  void fetch(Key key) const { __builtin_prefetch(&slots_[mixed(key) >> shift_]); }

  std::int32_t insert(Key key) {
    std::size_t slot = slot_of(key);
    if (slots_[slot].index != kNone) return slots_[slot].index;
    if (2 * (keys_.size() + 1) > slots_.size()) {
      grow();
      slot = slot_of(key);
    }
    slots_[slot] = {key, static_cast<std::int32_t>(keys_.size())};
    keys_.push_back(key);
    return slots_[slot].index;
  }

 private:
  struct Slot {
    Key key;
    std::int32_t index;
  };
  static constexpr int kFirstBits = 12;

  // The slot that holds the key, or the free one where it belongs.
  std::size_t slot_of(Key key) const {
    std::size_t slot = mixed(key) >> shift_;
    while (slots_[slot].index != kNone && slots_[slot].key != key)
      slot = (slot + 1) & (slots_.size() - 1);
    return slot;
  }

  void grow() {
    slots_.assign(2 * slots_.size(), Slot{{}, kNone});
    --shift_;
    for (std::size_t i = 0; i < keys_.size(); ++i)
      slots_[slot_of(keys_[i])] = {keys_[i], static_cast<std::int32_t>(i)};
  }

  std::vector<Key> keys_;
  std::vector<Slot> slots_;
  int shift_;
};

}  // namespace caffe_port::crf
