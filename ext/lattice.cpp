#include "lattice.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>

#include "crew.h"
#include "key_table.h"
#include "vertex_order.h"

namespace caffe_port::crf {
namespace {

constexpr int kTogether = 64;  // rows that follow each other, whose twins are in one group

// The keys of the d + 1 vertices of a group's i-th simplex. From one vertex to the next all
// coordinates grow by 1, but the one whose rank is next to the last's falls by d.
template <class Packing>
inline void vertices(const Simplices& found, int i, typename Packing::Key* keys) {
  constexpr int D = Packing::kDimension;
  typename Packing::Key drop[D + 1];
  typename Packing::Key key = {};
  for (int j = 0; j < D; ++j) {
    key += times(found.origin[j][i], Packing::unit(j));
    drop[found.rank[j][i]] = Packing::unit(j);
  }
  drop[found.rank[D][i]] = {};
  keys[0] = key;
  for (int m = 1; m <= D; ++m) {
    key += Packing::ones() + times(-(D + 1), drop[D - m + 1]);
    keys[m] = key;
  }
}

// Locates the pixels of a chunk and numbers their vertices; false when a key would not be unique.
template <class Packing>
bool locate_chunk(const Features& features, const std::vector<Run>& runs, bool padded,
                  Corner* corners, KeyTable<typename Packing::Key>& table,
                  std::vector<std::size_t>& met) {
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
    met.push_back(table.size());
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

}  // namespace

// Builds a lattice whose vertices are packed in this way.
template <class Packing>
struct Lattice::Builder {
  static constexpr int D = Packing::kDimension;
  static constexpr bool kInLines = D <= kMostInLines;
  using Table = KeyTable<typename Packing::Key>;

  Lattice& lattice;
  const Features& features;
  const PixelOrder& order;
  int threads;
  Table tables[kChunks];  // in the end the first has the vertices of all
  Places places;

  // False when keys would not be unique.
  bool build() {
    if (!locate()) return false;
    number();
    if (kInLines)
      lattice.neighbours_.resize(D + 1);
    else
      lattice.chains_.resize(D + 1);
    in_parallel(threads, [&](int member) {
      for (int c = member; c < kChunks; c += threads) take_rows(c);
      for (int axis = member; axis <= D; axis += threads) link(axis);
    });
    return true;
  }

 private:
  bool locate() {
    bool inside[kChunks];
    in_parallel(threads, [&](int member) {
      for (int c = member; c < kChunks; c += threads) {
        lattice.met_[c].clear();
        inside[c] = locate_chunk<Packing>(features, order.runs(c),
                                          c == kChunks - 1 && lattice.pixels_ % 4 != 0,
                                          lattice.corners_ptr(), tables[c], lattice.met_[c]);
      }
    });
    return std::all_of(inside, inside + kChunks, [](bool all) { return all; });
  }

  // Gives every vertex of every chunk its row.
  void number() {
    std::vector<std::int32_t> numbers[kChunks];  // of the chunks' vertices, in the first table
    std::size_t known[kChunks + 1] = {0, tables[0].size()};
    for (int c = 1; c < kChunks; ++c) {
      for (std::size_t i = 0; i < tables[c].size(); ++i)
        numbers[c].push_back(tables[0].insert(tables[c].key(i)));
      known[c + 1] = tables[0].size();
    }
    lattice.vertices_ = lattice.rows_ = tables[0].size();
    if constexpr (kInLines)
      places = by_line<Packing>(tables[0], lattice.begins_);
    else
      places = as_found(lattice.vertices_);
    lattice.row_[0].assign(places.begin(), places.begin() + known[1]);
    for (int c = 1; c < kChunks; ++c) take_places(c, numbers[c], known[c]);
  }

  // Numbers below known are those of chunks before.
  void take_places(int chunk, const std::vector<std::int32_t>& numbers, std::size_t known) {
    const std::size_t met = lattice.met_[chunk].empty() ? 0 : lattice.met_[chunk].back();
    for (std::size_t i = 0; i < numbers.size(); ++i) {
      std::int32_t row = places[numbers[i]];
      const bool shared = static_cast<std::size_t>(numbers[i]) < known;
      if (!shared && i >= met) lattice.unmet_.push_back(row);
      if (shared && i < met) {
        const auto twin = static_cast<std::int32_t>(lattice.rows_++);
        lattice.twins_[row / kTogether % kChunks].push_back({row, twin});
        row = twin;
      }
      lattice.row_[chunk].push_back(row);
    }
  }

  // The corners of a chunk's pixels, which have its own numbers, get rows.
  void take_rows(int chunk) {
    for (const Run& run : order.runs(chunk)) {
      Corner* const corners = lattice.corners_ptr() + run.begin * (D + 1);
      for (std::size_t i = 0; i < run.count * (D + 1); ++i)
        corners[i].row = lattice.row_[chunk][corners[i].row];
    }
  }

  void link(int axis) {
    if (kInLines)
      lattice.neighbours_[axis] =
          neighbours_along<Packing>(axis, tables[0], places, lattice.begins_);
    else
      lattice.chains_[axis] = chains_along<Packing>(axis, tables[0], places);
  }
};

template <class Packing>
bool Lattice::build(const Features& features, const PixelOrder& order, int threads) {
  return Builder<Packing>{*this, features, order, threads, {}, {}}.build();
}

Lattice::Lattice(const Features& features, const PixelOrder& order, int threads)
    : pixels_(features.height * features.width),
      dimension_(features.dimension),
      corners_((sizeof(Corner) / sizeof(float)) * pixels_ * (features.dimension + 1)) {
  if (dimension_ < 1 || dimension_ > kMaxDimension)
    throw std::invalid_argument("a lattice has 1 to 16 dimensions");
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
      {&Lattice::build<Packing<9, Pair, 16>>, nullptr},
      {&Lattice::build<Packing<10, Pair, 16>>, nullptr},
      {&Lattice::build<Packing<11, Pair, 16>>, nullptr},
      {&Lattice::build<Packing<12, Pair, 16>>, nullptr},
      {&Lattice::build<Packing<13, Pair, 16>>, nullptr},
      {&Lattice::build<Packing<14, Pair, 16>>, nullptr},
      {&Lattice::build<Packing<15, Pair, 16>>, nullptr},
      {&Lattice::build<Packing<16, Pair, 16>>, nullptr},
  };
  for (const Build build : builds[dimension_ - 1])
    if (build != nullptr && (this->*build)(features, order, threads)) return;
  throw std::range_error("a feature leaves the range of the lattice");
}

std::size_t Lattice::longest_line() const {
  std::size_t most = 0;
  for (std::size_t line = 0; line < lines(); ++line)
    most = std::max(most, begin(line + 1) - begin(line));
  return most;
}

Chains Lattice::chains(int axis, int part, int parts) const {
  const std::vector<std::int32_t>& order = chains_[axis];
  const auto bound = [&](int p) {
    std::size_t at = order.size() * p / parts;
    while (at < order.size() && order[at] >= 0) ++at;
    return order.data() + at;
  };
  return {bound(part), bound(part + 1)};
}

}  // namespace caffe_port::crf
