// Vectors of four floats: what SSE2 and NEON have, and what a compiler can write for any machine.
#include <cfloat>

#include "paths.h"

namespace caffe_port::crf {
namespace portable {
constexpr int kLanes = 4;
typedef float Vec4 __attribute__((vector_size(16)));
typedef Vec4 VecN;
inline Vec4 fused(Vec4 a, Vec4 b, Vec4 c) { return a * b + c; }
#include "path_loops.h"
#define CAFFE_PORT_PATH_NAME "portable"
#include "path_table.h"
}  // namespace portable

const Path& portable_path() { return portable::table; }

}  // namespace caffe_port::crf
