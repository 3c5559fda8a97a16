#include "lattice.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>

#include "crew.h"
#include "key_table.h"

namespace caffe_port::crf {
namespace {

constexpr std::size_t kAhead = 16;  // keys looked up in advance

// The keys of the d + 1 vertices of a group's i-th simplex. From one vertex to the next all
// coordinates grow by 1, but the one whose rank is next to the last's falls by d.
template <class Packing>
inline void vertices(const Simplices& found, int i, typename Packing::Key* keys) {
  constexpr int D = Packing::kDimension;
  typename Packing::Key drop[D + 1];
  typename Packing::Key key = 0;
  for (int j = 0; j < D; ++j) {
    key += Packing::unit(j) * static_cast<typename Packing::Key>(found.origin[j][i]);
    drop[found.rank[j][i]] = Packing::unit(j);
  }
  drop[found.rank[D][i]] = 0;
  keys[0] = key;
  for (int m = 1; m <= D; ++m) {
    key += Packing::ones() - (D + 1) * drop[D - m + 1];
    keys[m] = key;
  }
}

// Locates the pixels of a chunk and numbers their vertices; false when a key would not be unique.
template <class Packing>
bool locate_chunk(const Features& features, const std::vector<Run>& runs, bool padded,
                  Corner* corners, KeyTable<typename Packing::Key>& table) {
  constexpr int D = Packing::kDimension;
  const auto locate = path().locate[D - 1];
  float group[kMaxDimension * kGroup];
  Simplices found;
  typename Packing::Key keys[kGroup][D + 1];
  for (const Run& run : runs) {
    Corner* corner = corners + run.begin * (D + 1);
    for (std::size_t first = 0; first < run.count; first += kGroup) {
      const int count = static_cast<int>(std::min<std::size_t>(kGroup, run.count - first));
      features.load(run.pixel + first, count, group);
      if (!locate(group, Packing::kLimit, found)) return false;
      for (int i = 0; i < count; ++i) {
        vertices<Packing>(found, i, keys[i]);
        for (int m = 0; m <= D; ++m) table.fetch(keys[i][m]);
      }
      for (int i = 0; i < count; ++i)
        for (int m = 0; m <= D; ++m) *corner++ = {table.insert(keys[i][m]), found.weight[m][i]};
    }
  }
  // The original works on four pixels at a time and pads the last group with zero features.
  // These carry no value, but their vertices take part in the blur.
  if (padded) {
    const float zero[D * kGroup] = {};
    locate(zero, Packing::kLimit, found);
    vertices<Packing>(found, 0, keys[0]);
    for (int m = 0; m <= D; ++m) table.insert(keys[0][m]);
  }
  return true;
}

// The numbering of two chunks' vertices as one.
struct Merged {
  std::vector<std::int32_t> row[2];  // by chunk, by the chunk's own number
  std::int32_t first_end, second_begin, rows;
};

// Adds what is new in the second table to the first, where number i >= first_end is row i.
template <class Key>
Merged merge(KeyTable<Key>& first, const KeyTable<Key>& second) {
  Merged result;
  auto& [row_0, row_1] = result.row;
  const auto first_end = static_cast<std::int32_t>(first.size());
  row_0.assign(first_end, 0);
  row_1.resize(second.size());
  std::int32_t shared = 0;
  for (std::size_t i = 0; i < second.size(); ++i) {
    row_1[i] = first.insert(second.key(i));
    if (row_1[i] < first_end) row_0[row_1[i]] = 1, ++shared;
  }
  result.first_end = first_end;
  result.second_begin = first_end - shared;
  result.rows = static_cast<std::int32_t>(first.size());
  std::int32_t alone = 0, common = result.second_begin;
  for (std::int32_t& row : row_0) row = row ? common++ : alone++;
  for (std::int32_t& row : row_1)
    if (row < first_end) row = row_0[row];
  return result;
}

template <class Packing>
std::vector<std::int32_t> chain(const KeyTable<typename Packing::Key>& table, const Merged& merged,
                                int axis) {
  const auto row_of = [&](std::int32_t i) { return i < merged.first_end ? merged.row[0][i] : i; };
  std::vector<std::int32_t> next(table.size(), -1);
  std::vector<char> follows(table.size(), 0);
  const auto step = Packing::step(axis);
  for (std::size_t i = 0; i < table.size(); ++i) {
    if (i + kAhead < table.size()) table.fetch(table.key(i + kAhead) + step);
    const std::int32_t found = table.find(table.key(i) + step);
    if (found < 0) continue;
    next[row_of(static_cast<std::int32_t>(i))] = row_of(found);
    follows[row_of(found)] = 1;
  }
  std::vector<std::int32_t> order;
  order.reserve(next.size());
  for (std::size_t row = 0; row < next.size(); ++row) {
    if (follows[row]) continue;
    if (axis > 0 && next[row] < 0) continue;  // the blur would change nothing
    order.push_back(~static_cast<std::int32_t>(row));
    for (std::int32_t at = next[row]; at >= 0; at = next[at]) order.push_back(at);
  }
  return order;
}

}  // namespace

template <class Packing>
bool Lattice::build(const Features& features, const PixelOrder& order, int threads) {
  constexpr int D = Packing::kDimension;
  KeyTable<typename Packing::Key> tables[2];
  bool inside[2];
  in_parallel(threads, [&](int member) {
    for (int c = member; c < 2; c += threads)
      inside[c] = locate_chunk<Packing>(features, order.runs(c), c == 1 && pixels_ % 4 != 0,
                                        corners_ptr(), tables[c]);
  });
  if (!inside[0] || !inside[1]) return false;
  const Merged merged = merge(tables[0], tables[1]);
  first_end_ = merged.first_end;
  second_begin_ = merged.second_begin;
  rows_ = merged.rows;
  chains_.resize(D + 1);
  in_parallel(threads, [&](int member) {
    for (int c = member; c < 2; c += threads)
      for (const Run& run : order.runs(c))
        for (std::size_t i = run.begin * (D + 1); i < (run.begin + run.count) * (D + 1); ++i)
          corners_ptr()[i].row = merged.row[c][corners_ptr()[i].row];
    for (int axis = member; axis <= D; axis += threads)
      chains_[axis] = chain<Packing>(tables[0], merged, axis);
  });
  return true;
}

Lattice::Lattice(const Features& features, const PixelOrder& order, int threads)
    : pixels_(features.height * features.width),
      dimension_(features.dimension),
      corners_((sizeof(Corner) / sizeof(float)) * pixels_ * (features.dimension + 1)) {
  if (dimension_ < 1 || dimension_ > kMaxDimension)
    throw std::invalid_argument("a lattice has 1 to 8 dimensions");
  constexpr std::size_t most = std::numeric_limits<std::int32_t>::max() - kMaxDimension - 2;
  if (pixels_ == 0 || pixels_ > most / (dimension_ + 1))
    throw std::invalid_argument("no pixels, or too many for 32-bit vertex numbers");
  const FlushDenormals flush;
  alpha_ = 1.0f / (1.0f + std::pow(2.0f, static_cast<float>(-dimension_)));
  // Packed as tightly as the first; where a coordinate is too large for that, as the second.
  using Build = bool (Lattice::*)(const Features&, const PixelOrder&, int);
  constexpr Build builds[kMaxDimension][2] = {
      {&Lattice::build<Packing<1, std::uint64_t, 16>>, nullptr},
      {&Lattice::build<Packing<2, std::uint64_t, 16>>, nullptr},
      {&Lattice::build<Packing<3, std::uint64_t, 16>>, nullptr},
      {&Lattice::build<Packing<4, std::uint64_t, 16>>, nullptr},
      {&Lattice::build<Packing<5, std::uint64_t, 12>>, &Lattice::build<Packing<5, Wide, 16>>},
      {&Lattice::build<Packing<6, Wide, 16>>, nullptr},
      {&Lattice::build<Packing<7, Wide, 16>>, nullptr},
      {&Lattice::build<Packing<8, Wide, 16>>, nullptr},
  };
  for (const Build build : builds[dimension_ - 1])
    if (build != nullptr && (this->*build)(features, order, threads)) return;
  throw std::range_error("a feature leaves the range of the lattice");
}

ChainPart Lattice::chains(int axis, int part, int parts) const {
  const std::vector<std::int32_t>& order = chains_[axis];
  const auto bound = [&](int p) {
    std::size_t at = order.size() * p / parts;
    while (at < order.size() && order[at] >= 0) ++at;
    return order.data() + at;
  };
  return {bound(part), bound(part + 1)};
}

}  // namespace caffe_port::crf
