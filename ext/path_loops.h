// The inner loops over vectors of kLanes floats, written once. A file that includes this has set
// the instruction set and opened a namespace of its own, so that no other code is compiled for it.

template <class V>
struct Of {
  static constexpr int lanes = sizeof(V) / sizeof(float);
  using Ints = decltype(V{} > V{});
  typedef unsigned Bits __attribute__((vector_size(sizeof(V))));  // its sums may wrap
};

template <class V>
inline V all(float value) {
  return value - V{};  // what a compiler may take for a mere copy to all lanes
}

// sum + a b; fused() may leave out the rounding of the product, which exact results need.
template <bool Exact, class V>
inline V plus_product(V sum, V a, V b) {
  return Exact ? sum + a * b : fused(a, b, sum);
}

// A group of B vectors of a row. Rows longer than a group are processed group by group (Many).
template <class V, int B>
struct Group {
  V at[B];
  static constexpr std::size_t floats = B * Of<V>::lanes;

  static Group load(const float* from) {
    Group result;
    for (int k = 0; k < B; ++k) result.at[k] = reinterpret_cast<const V*>(from)[k];
    return result;
  }
  void store(float* into) const {
    for (int k = 0; k < B; ++k) reinterpret_cast<V*>(into)[k] = at[k];
  }
  static void fetch(const float* from) {
    for (std::size_t k = 0; k < floats; k += 16) __builtin_prefetch(from + k);
  }
};

// ---- locate

template <class V, int D>
struct Locator {
  using Ints = typename Of<V>::Ints;
  V elevated[D + 1], origin[D + 1];
  Ints rank[D + 1];

  static constexpr float kInverse = 1.0f / (D + 1);

  bool elevate(const float* features, const float* scale, float limit) {
    V sum{};
    Ints inside = V{} == V{};
    for (int j = D; j > 0; --j) {
      V feature;
      __builtin_memcpy(&feature, features + (j - 1) * kGroup, sizeof(V));
      const V scaled = feature * scale[j - 1];
      elevated[j] = sum - static_cast<float>(j) * scaled;
      sum += scaled;
      inside &= (elevated[j] <= limit) & (elevated[j] >= -limit);
    }
    elevated[0] = sum;
    inside &= (sum <= limit) & (sum >= -limit);
    bool result = true;
    for (int lane = 0; lane < Of<V>::lanes; ++lane) result &= inside[lane] != 0;
    return result;
  }

  // The nearest point whose coordinates are multiples of d + 1. It may lie off the plane.
  Ints round() {
    // Adding and subtracting 1.5 * 2^23 rounds to the nearest integer, ties to even.
    constexpr float magic = 12582912.0f;
    V sum{};
    for (int i = 0; i <= D; ++i) {
      const V multiple = (kInverse * elevated[i] + magic) - magic;
      origin[i] = multiple * static_cast<float>(D + 1);
      sum += multiple;
    }
    return __builtin_convertvector(sum, Ints);
  }

  // Ranks the residues, and brings the point back to the plane when its sum is not zero.
  void order(Ints sum) {
    V residue[D + 1];
    for (int i = 0; i <= D; ++i) {
      residue[i] = elevated[i] - origin[i];
      rank[i] = sum;
    }
    for (int i = 0; i < D; ++i)
      for (int j = i + 1; j <= D; ++j) {
        const Ints less = residue[i] < residue[j];  // -1 where true
        rank[i] -= less;
        rank[j] += 1 + less;
      }
    for (int i = 0; i <= D; ++i) {
      const Ints wrap = ((rank[i] < 0) & (D + 1)) - ((rank[i] > D) & (D + 1));
      rank[i] += wrap;
      origin[i] += __builtin_convertvector(wrap, V);
    }
  }

  void store(int first, Simplices& found) const {
    V sorted[D + 1] = {};
    for (int i = 0; i <= D; ++i) {
      const V weight = (elevated[i] - origin[i]) * kInverse;
      for (int r = 0; r <= D; ++r) sorted[r] = rank[i] == r ? weight : sorted[r];
      const Ints whole = __builtin_convertvector(origin[i], Ints);
      __builtin_memcpy(found.origin[i] + first, &whole, sizeof(Ints));
      __builtin_memcpy(found.rank[i] + first, &rank[i], sizeof(Ints));
    }
    const V zeroth = sorted[D] + (1.0f - sorted[0]);
    __builtin_memcpy(found.weight[0] + first, &zeroth, sizeof(V));
    for (int m = 1; m <= D; ++m) {
      const V weight = sorted[D - m] - sorted[D - m + 1];
      __builtin_memcpy(found.weight[m] + first, &weight, sizeof(V));
    }
  }
};

template <class V, int D>
bool locate(const float* features, float limit, Simplices& found) {
  // Scales that make one blur a Gaussian of unit width in feature space.
  const float deviation = static_cast<float>(__builtin_sqrt(2.0 / 3.0) * (D + 1));
  float scale[D];
  for (int i = 0; i < D; ++i)
    scale[i] = static_cast<float>(1.0 / __builtin_sqrt((i + 2.0) * (i + 1.0)) * deviation);
  Locator<V, D> locator;
  for (int first = 0; first < kGroup; first += Of<V>::lanes) {
    // beyond the limit no int holds the coordinates
    if (!locator.elevate(features + first, scale, limit)) return false;
    locator.order(locator.round());
    locator.store(first, found);
  }
  return true;
}

// ---- splat, slice

constexpr int kAhead = 16;   // rows at random places, fetched in advance
constexpr int kStream = 16;  // pixels read in order, fetched in advance

template <class V, int B, bool Many, bool Exact, int C>
inline void slice_corners(Pixels pixels, const float* values, float alpha, float weight,
                          const float* factor, const float* start, float* rows,
                          std::size_t given) {
  using G = Group<V, B>;
  const std::size_t width = Many ? given : G::floats;
  const int corners = C ? C : pixels.corner_count;
  const Corner* corner = pixels.corners;
  for (std::size_t i = 0; i < pixels.count; ++i, corner += corners) {
    float scale = factor ? weight * factor[i] : weight;
    if (!Exact) scale *= alpha;
    if (start != rows) G::fetch(start + (i + kStream) * width);
    __builtin_prefetch(corner + kStream * corners);
    for (std::size_t k = 0; k < width; k += G::floats) {
      V sum[B] = {};
#pragma GCC unroll 6
      for (int j = 0; j < corners; ++j) {
        const V w = all<V>(Exact ? corner[j].weight * alpha : corner[j].weight);
        const G from = G::load(values + corner[j].row * width + k);
        for (int b = 0; b < B; ++b) sum[b] = plus_product<Exact>(sum[b], w, from.at[b]);
      }
      G row = G::load(start + i * width + k);
      for (int b = 0; b < B; ++b) row.at[b] = plus_product<Exact>(row.at[b], all<V>(scale), sum[b]);
      row.store(rows + i * width + k);
    }
  }
}

template <class V, int B, bool Many, bool Exact, int C>
inline void splat_corners(Pixels pixels, const float* rows, const float* factor, float* sums,
                          std::size_t given) {
  using G = Group<V, B>;
  const std::size_t width = Many ? given : G::floats;
  const int corners = C ? C : pixels.corner_count;
  const Corner* corner = pixels.corners;
  for (std::size_t i = 0; i < pixels.count; ++i, corner += corners)
    for (std::size_t k = 0; k < width; k += G::floats) {
      G row = G::load(rows + i * width + k);
      if (factor)
        for (int b = 0; b < B; ++b) row.at[b] = factor[i] * row.at[b];
#pragma GCC unroll 6
      for (int j = 0; j < corners; ++j) {
        float* const into = sums + corner[j].row * width + k;
        const V w = all<V>(corner[j].weight);
        G sum = G::load(into);
        for (int b = 0; b < B; ++b) sum.at[b] = plus_product<Exact>(sum.at[b], w, row.at[b]);
        sum.store(into);
      }
    }
}

// The kernels over positions (d = 2) and over positions and colours (d = 5) have loops of their own.
template <class V, int B, bool Many, bool Exact>
void slice(Pixels pixels, const float* values, float alpha, float weight, const float* factor,
           const float* start, float* rows, std::size_t width) {
  const auto corners = pixels.corner_count == 3   ? slice_corners<V, B, Many, Exact, 3>
                       : pixels.corner_count == 6 ? slice_corners<V, B, Many, Exact, 6>
                                                  : slice_corners<V, B, Many, Exact, 0>;
  corners(pixels, values, alpha, weight, factor, start, rows, width);
}

template <class V, int B, bool Many, bool Exact>
void splat(Pixels pixels, const float* rows, const float* factor, float* sums,
           std::size_t width) {
  const auto corners = pixels.corner_count == 3   ? splat_corners<V, B, Many, Exact, 3>
                       : pixels.corner_count == 6 ? splat_corners<V, B, Many, Exact, 6>
                                                  : splat_corners<V, B, Many, Exact, 0>;
  corners(pixels, rows, factor, sums, width);
}

// ---- blur

template <class V, int B, bool Many>
void clear(Rows rows, float* values, std::size_t given) {
  using G = Group<V, B>;
  const std::size_t width = Many ? given : G::floats;
  for (std::size_t i = 0; i < rows.count; ++i)
    for (std::size_t k = 0; k < width; k += G::floats)
      G{}.store(values + rows.begin[i] * width + k);
  for (std::size_t i = rows.count; i < rows.count + rows.more; ++i)
    for (std::size_t k = 0; k < width; k += 16)
      __builtin_prefetch(values + rows.begin[i] * width + k, 1);
}

template <class V, int B, bool Many>
void join(const Twins* twins, std::size_t count, float* values, std::size_t given) {
  using G = Group<V, B>;
  const std::size_t width = Many ? given : G::floats;
  for (std::size_t i = 0; i < count; ++i)
    for (std::size_t k = 0; k < width; k += G::floats) {
      G sum = G::load(values + twins[i].row * width + k);
      const G other = G::load(values + twins[i].twin * width + k);
      for (int b = 0; b < B; ++b) sum.at[b] += other.at[b];
      sum.store(values + twins[i].row * width + k);
    }
}

template <class V, int B, bool Many>
void part(const Twins* twins, std::size_t count, float* values, std::size_t given) {
  using G = Group<V, B>;
  const std::size_t width = Many ? given : G::floats;
  for (std::size_t i = 0; i < count; ++i)
    for (std::size_t k = 0; k < width; k += G::floats)
      G::load(values + twins[i].row * width + k).store(values + twins[i].twin * width + k);
}

// Walks the chains with three rows at hand: the one before, the one to change, the one after.
template <class V, int B>
inline void walk(Chains chains, float* values, std::ptrdiff_t width) {
  using G = Group<V, B>;
  using Ints = typename Of<V>::Ints;
  const auto read = [=](std::ptrdiff_t row) { return G::load(values + row * width); };
  if (chains.begin == chains.end) return;
  std::int32_t row = ~*chains.begin;
  G previous = {}, current = read(row);
  for (const std::int32_t* at = chains.begin; at < chains.end; ++at) {
    const bool last = at + 1 == chains.end;
    const std::int32_t step = last ? ~row : at[1];
    if (chains.end - at > kAhead) {
      const std::ptrdiff_t ahead = at[kAhead] ^ (at[kAhead] >> 31);
      G::fetch(values + ahead * width);
    }
    const std::int32_t linked = ~(step >> 31);  // all bits set unless a chain begins
    const std::int32_t next_row = step ^ ~linked;
    const G next = last ? G{} : read(next_row);
    const Ints mask = Ints{} + linked;
    G blurred;
    for (int b = 0; b < B; ++b) {
      const V after = (V)((Ints)next.at[b] & mask);
      blurred.at[b] = current.at[b] + 0.5f * (previous.at[b] + after);
      previous.at[b] = (V)((Ints)current.at[b] & mask);
    }
    blurred.store(values + row * width);
    current = next;
    row = next_row;
  }
}

template <class V, int B, bool Many>
void blur_chains(Chains chains, float* values, std::size_t given) {
  using G = Group<V, B>;
  const std::ptrdiff_t width = Many ? given : G::floats;
  for (std::ptrdiff_t k = 0; k < width; k += G::floats) walk<V, B>(chains, values + k, width);
}

template <class V, int B, bool Many>
void blur_line(Line line, float* rows, std::size_t given) {
  using G = Group<V, B>;
  const std::ptrdiff_t width = Many ? given : G::floats;
  for (std::size_t i = 0; i < line.count; ++i) {
    const Neighbours next = line.neighbours[i];
    const float* const before = next.before < 0 ? line.zeros : line.before + next.before * width;
    const float* const after = next.after < 0 ? line.zeros : line.after + next.after * width;
    for (std::ptrdiff_t k = 0; k < width; k += G::floats) {
      G row = G::load(line.own + i * width + k);
      const G one = G::load(before + k), other = G::load(after + k);
      for (int b = 0; b < B; ++b) row.at[b] += 0.5f * (one.at[b] + other.at[b]);
      row.store(rows + i * width + k);
    }
  }
}

// ---- planes and rows

// Lanes of two vectors, picked by four numbers below 8.
template <int A, int B, int C, int D>
inline Vec4 picked(Vec4 x, Vec4 y) {
#if defined(__clang__)
  return __builtin_shufflevector(x, y, A, B, C, D);
#else
  return __builtin_shuffle(x, y, Of<Vec4>::Ints{A, B, C, D});
#endif
}

inline void transpose(Vec4 (&block)[4]) {
  const Vec4 a = picked<0, 4, 1, 5>(block[0], block[1]), b = picked<2, 6, 3, 7>(block[0], block[1]);
  const Vec4 c = picked<0, 4, 1, 5>(block[2], block[3]), d = picked<2, 6, 3, 7>(block[2], block[3]);
  block[0] = picked<0, 1, 4, 5>(a, c);
  block[1] = picked<2, 3, 6, 7>(a, c);
  block[2] = picked<0, 1, 4, 5>(b, d);
  block[3] = picked<2, 3, 6, 7>(b, d);
}

inline void copy_in(const float* from, std::size_t count, Vec4& into) {
  if (count == 4) return (void)__builtin_memcpy(&into, from, sizeof(Vec4));
  for (std::size_t i = 0; i < count; ++i) into[i] = from[i];
}

inline void copy_out(const Vec4& from, std::size_t count, float* into) {
  if (count == 4) return (void)__builtin_memcpy(into, &from, sizeof(Vec4));
  for (std::size_t i = 0; i < count; ++i) into[i] = from[i];
}

void to_rows(const Planes<const float>& planes, float sign, float unused, float* rows,
             std::size_t width) {
  for (std::size_t i = 0; i < planes.count; i += 4)
    for (std::size_t label = 0; label < width; label += 4) {
      const std::size_t most = planes.count - i < 4 ? planes.count - i : 4;
      Vec4 block[4];
      for (int k = 0; k < 4; ++k) {
        block[k] = all<Vec4>(unused);
        if (label + k >= planes.labels) continue;
        copy_in(planes.data + (label + k) * planes.stride + i, most, block[k]);
        block[k] *= sign;
      }
      transpose(block);
      for (std::size_t k = 0; k < most; ++k)
        copy_out(block[k], 4, rows + (i + k) * width + label);
    }
}

void to_planes(const float* rows, std::size_t width, const Planes<float>& planes) {
  for (std::size_t i = 0; i < planes.count; i += 4)
    for (std::size_t label = 0; label < planes.labels; label += 4) {
      const std::size_t most = planes.count - i < 4 ? planes.count - i : 4;
      Vec4 block[4] = {};
      for (std::size_t k = 0; k < most; ++k)
        copy_in(rows + (i + k) * width + label, 4, block[k]);
      transpose(block);
      for (std::size_t k = 0; k < 4 && label + k < planes.labels; ++k)
        copy_out(block[k], most, planes.data + (label + k) * planes.stride + i);
    }
}

void fetch_planes(const Planes<const float>& planes) {
  for (std::size_t label = 0; label < planes.labels; ++label)
    for (std::size_t i = 0; i < planes.count + 15; i += 16)
      __builtin_prefetch(planes.data + label * planes.stride + i);
}

void fetch_rows(const float* rows, std::size_t count) {
  for (std::size_t i = 0; i < count; i += 16) __builtin_prefetch(rows + i);
}

#include "path_softmax.h"

template <bool Exact, class V, int B, bool Many = false>
constexpr RowLoops loops() {
  return {slice<V, B, Many, Exact>, splat<V, B, Many, Exact>, clear<V, B, Many>,
          join<V, B, Many>,         part<V, B, Many>,         blur_chains<V, B, Many>,
          blur_line<V, B, Many>,    softmax<V, B, Many>};
}

constexpr int k8 = 8 / kLanes;  // vectors in eight floats
