#include "paths.h"

#include <atomic>
#include <cstring>
#include <initializer_list>

namespace caffe_port::crf {

const Path& portable_path();
const Path* avx2_path();  // null where it does not run

namespace {

const Path& best_path() {
  const Path* const avx2 = avx2_path();
  return avx2 ? *avx2 : portable_path();
}

std::atomic<const Path*>& chosen() {
  static std::atomic<const Path*> path{&best_path()};
  return path;
}

}  // namespace

const Path& path() { return *chosen().load(std::memory_order_relaxed); }

bool choose_path(const char* name) {
  for (const Path* candidate : {&best_path(), &portable_path()})
    if (std::strcmp(name, candidate->name) == 0 || std::strcmp(name, "best") == 0) {
      chosen().store(candidate, std::memory_order_relaxed);
      return true;
    }
  return false;
}

const RowLoops& row_loops(std::size_t width, bool exact) {
  const RowLoopsByWidth& found = path().loops[exact];
  switch (width) {
    case 4: return found.rows_4;
    case 8: return found.rows_8;
    case 16: return found.rows_16;
    case 24: return found.rows_24;
    case 32: return found.rows_32;
    default: return found.rows_many;
  }
}

}  // namespace caffe_port::crf
