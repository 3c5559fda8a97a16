// The exponential and the softmax of rows. Part of path_loops.h.

// e^v for v <= 0, and exactly 0 below -20, as in libDenseCRF.
// The argument is halved until it is at most 0.69, the polynomial of Abramowitz and Stegun,
// "Handbook of Mathematical Functions", 4.2.45, is evaluated and its value squared as often.
template <class V>
inline V exp_deeplab(V v) {
  using Ints = typename Of<V>::Ints;
  constexpr int halvings = 5;  // 20 / 2^5 < 0.69
  const V x = -v;
  Ints above[halvings], count{};
  for (int i = 0; i < halvings; ++i) {
    above[i] = x > 0.69f * static_cast<float>(1 << i);
    count += above[i];  // -1 where true
  }
  const Ints exponent = (count + 127) << 23;
  const V y = x * (V)exponent;
  V e = 0.0013298820f - y * 0.0001413161f;
  e = 0.0083013598f - y * e;
  e = 0.0416573475f - y * e;
  e = 0.1666653019f - y * e;
  e = 0.4999999206f - y * e;
  e = 0.9999999995f - y * e;
  e = 1.0f - y * e;
  for (int i = 0; i < halvings; ++i) e = above[i] ? e * e : e;
  return x > 20.0f ? V{} : e;
}

// e^v for -87 <= v <= 0, within (1 + |v|) 2e-7 of itself: 2^k times a polynomial of the rest, fitted
// for the least relative error between -ln 2 / 2 and ln 2 / 2.
template <class V>
inline V exp_fitted(V v) {
  using Bits = typename Of<V>::Bits;
  constexpr float magic = 12582912.0f;  // rounds to the nearest integer, and shows it in its bits
  const V shown = fused(v, all<V>(1.44269504f), all<V>(magic));
  const V r = fused(shown - magic, all<V>(-0.693147182f), v);
  V e = fused(r, all<V>(0.00829030573f), all<V>(0.0418979749f));
  e = fused(e, r, all<V>(0.166676372f));
  e = fused(e, r, all<V>(0.499991506f));
  e = fused(e, r, all<V>(0.999999702f));
  e = fused(e, r, all<V>(1.0f));
  return (V)((Bits)e + ((Bits)shown << 23));  // the magic's own bits leave at the top
}

template <Exponential Kind, class V>
inline V exp_negative(V v) {
  if (Kind == Exponential::kExact) return exp_deeplab(v);
  if (Kind == Exponential::kCutOff) return v < -20.0f ? V{} : exp_fitted(v);
  return v < -FLT_MAX ? V{} : exp_fitted(v < -87.0f ? all<V>(-87.0f) : v);
}

// The vector with its lanes turned by some places.
template <int Places, class V>
inline V turned(V v) {
#if defined(__clang__)
  if constexpr (sizeof(V) == 16)
    return __builtin_shufflevector(v, v, (0 + Places) % 4, (1 + Places) % 4, (2 + Places) % 4,
                                   (3 + Places) % 4);
  else
    return __builtin_shufflevector(v, v, (0 + Places) % 8, (1 + Places) % 8, (2 + Places) % 8,
                                   (3 + Places) % 8, (4 + Places) % 8, (5 + Places) % 8,
                                   (6 + Places) % 8, (7 + Places) % 8);
#else
  using Ints = typename Of<V>::Ints;
  if constexpr (sizeof(V) == 16)
    return __builtin_shuffle(v, Ints{Places, 1 + Places, 2 + Places, 3 + Places});
  else
    return __builtin_shuffle(v, Ints{Places, 1 + Places, 2 + Places, 3 + Places, 4 + Places,
                                     5 + Places, 6 + Places, 7 + Places});
#endif
}

// All lanes of count vectors joined, in each lane of the result; in the same order whether eight
// lanes are one vector or two.
template <class V, class Join>
inline V joined(const V* vectors, std::size_t count, Join join) {
  V result = vectors[0];
  if constexpr (sizeof(V) == 32) {
    for (std::size_t k = 1; k < count; ++k) result = join(result, vectors[k]);
    result = join(result, turned<4>(result));
  } else if (count > 1) {
    V odd = vectors[1];
    for (std::size_t k = 2; k < count; k += 2) {
      result = join(result, vectors[k]);
      odd = join(odd, vectors[k + 1]);
    }
    result = join(result, odd);
  }
  result = join(result, turned<2>(result));
  return join(result, turned<1>(result));
}

template <class V, int B, bool Many, Exponential Kind>
inline bool softmax_rows(std::size_t count, std::size_t labels, float* rows, std::size_t given) {
  const std::size_t width = Many ? given : Group<V, B>::floats, vectors = width / Of<V>::lanes;
  const auto larger = [](V a, V b) { return b > a ? b : a; };
  typename Of<V>::Ints good = V{} == V{};
  for (std::size_t i = 0; i < count; ++i) {
    V* const vector = reinterpret_cast<V*>(rows + i * width);
    const V top = joined(vector, vectors, larger);
    for (std::size_t k = 0; k < vectors; ++k) vector[k] = exp_negative<Kind>(vector[k] - top);
    if (Kind == Exponential::kExact) {
      float sum = 0.0f;  // label after label, as the original
      for (std::size_t label = 0; label < labels; ++label) sum += rows[i * width + label];
      for (std::size_t k = 0; k < vectors; ++k) vector[k] /= sum;
      good &= all<V>(sum) >= 1.0f;
    } else {
      const V sum = joined(vector, vectors, [](V a, V b) { return a + b; });
      const V inverse = 1.0f / sum;
      for (std::size_t k = 0; k < vectors; ++k) vector[k] *= inverse;
      good &= sum >= 1.0f;
    }
  }
  bool finite = true;
  for (int lane = 0; lane < Of<V>::lanes; ++lane) finite &= good[lane] != 0;
  return finite;
}

template <class V, int B, bool Many>
bool softmax(Exponential kind, std::size_t count, std::size_t labels, float* rows,
             std::size_t width) {
  if (kind == Exponential::kExact)
    return softmax_rows<V, B, Many, Exponential::kExact>(count, labels, rows, width);
  if (kind == Exponential::kCutOff)
    return softmax_rows<V, B, Many, Exponential::kCutOff>(count, labels, rows, width);
  return softmax_rows<V, B, Many, Exponential::kClamped>(count, labels, rows, width);
}

void exponential(Exponential kind, const float* x, float* y, std::size_t count) {
  for (std::size_t i = 0; i < count; i += kLanes) {
    VecN v{};
    const std::size_t bytes = (count - i < kLanes ? count - i : kLanes) * sizeof(float);
    __builtin_memcpy(&v, x + i, bytes);
    v = kind == Exponential::kExact    ? exp_negative<Exponential::kExact>(v)
        : kind == Exponential::kCutOff ? exp_negative<Exponential::kCutOff>(v)
                                       : exp_negative<Exponential::kClamped>(v);
    __builtin_memcpy(y + i, &v, bytes);
  }
}
