// Vectors of eight floats, for x86 processors with AVX2 and FMA.
#include <cfloat>

#include "paths.h"

#if defined(__x86_64__) && defined(__GNUC__)

#include <immintrin.h>

// Only what follows is compiled for AVX2, and it defines nothing outside its namespace:
// a function of a header compiled here could otherwise be linked into code for older processors.
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma")
#endif

namespace caffe_port::crf {
namespace avx2 {
constexpr int kLanes = 8;
typedef float Vec4 __attribute__((vector_size(16)));
typedef float VecN __attribute__((vector_size(32)));
inline Vec4 fused(Vec4 a, Vec4 b, Vec4 c) { return (Vec4)_mm_fmadd_ps(a, b, c); }
inline VecN fused(VecN a, VecN b, VecN c) { return (VecN)_mm256_fmadd_ps(a, b, c); }
#include "path_loops.h"
#define CAFFE_PORT_PATH_NAME "avx2"
#include "path_table.h"
}  // namespace avx2
}  // namespace caffe_port::crf

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

namespace caffe_port::crf {

const Path* avx2_path() {
  const bool runs = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  return runs ? &avx2::table : nullptr;
}

}  // namespace caffe_port::crf

#else

namespace caffe_port::crf {

const Path* avx2_path() { return nullptr; }

}  // namespace caffe_port::crf

#endif
