#include "line_blur.h"

#include <algorithm>

namespace caffe_port::crf {
namespace {

// The first line of a part, such that parts have much the same number of vertices.
std::size_t part_begin(const Lattice& lattice, int part, int parts) {
  if (part == parts) return lattice.lines();
  std::size_t line = 0;
  while (lattice.begin(line) < lattice.vertices() * part / parts) ++line;
  return line;
}

std::size_t total_reach(const Lattice& lattice) {
  std::size_t lines = 0;
  for (int axis = 0; axis < lattice.axes(); ++axis) lines += lattice.reach(axis);
  return lines;
}

}  // namespace

LineBlur::LineBlur(const Lattice& lattice, std::size_t width, const RowLoops& loops, bool adjoint,
                   int part, int parts)
    : lattice_(lattice),
      width_(width),
      pitch_(lattice.longest_line() * width),
      loops_(loops),
      begin_(part_begin(lattice, part, parts)),
      end_(part_begin(lattice, part + 1, parts)),
      from_(begin_),
      to_(end_),
      overlap_(total_reach(lattice)),
      rows_((2 * overlap_ + lattice.axes()) * pitch_),
      aside_(parts > 1 ? 2 * overlap_ * pitch_ : 0),
      zeros_(width) {
  zeros_.clear();
  float* rows = rows_.data();
  std::size_t lag = 0;
  for (int i = 0; i < lattice.axes(); ++i) {
    const int axis = adjoint ? lattice.axes() - 1 - i : i;
    const std::size_t reach = lattice.reach(axis);
    lag += reach;
    stages_.push_back({axis, reach, lag, 0, 0, rows});
    rows += (2 * reach + 1) * pitch_;
  }
  // A stage must provide its own lines and those that later ones reach for.
  for (auto stage = stages_.rbegin(); stage != stages_.rend(); ++stage) {
    stage->begin = from_;
    stage->end = to_;
    from_ -= std::min(from_, stage->reach);
    to_ = std::min(lattice.lines(), to_ + stage->reach);
  }
}

void LineBlur::take_aside(const float* sums) {
  const auto copy = [&](std::size_t line, float* into) {
    std::copy(sums + lattice_.begin(line) * width_, sums + lattice_.begin(line + 1) * width_, into);
  };
  for (std::size_t line = from_; line < begin_; ++line)
    copy(line, aside_.data() + (line - from_) * pitch_);
  for (std::size_t line = end_; line < to_; ++line)
    copy(line, aside_.data() + (overlap_ + line - end_) * pitch_);
}

const float* LineBlur::sums_of(std::size_t line, const float* sums) const {
  if (line < begin_) return aside_.data() + (line - from_) * pitch_;
  if (line >= end_) return aside_.data() + (overlap_ + line - end_) * pitch_;
  return sums + lattice_.begin(line) * width_;
}

float* LineBlur::line(std::size_t stage, std::size_t line) {
  return stages_[stage].rows + line % (2 * stages_[stage].reach + 1) * pitch_;
}

void LineBlur::blur(std::size_t stage, std::size_t at, float* sums) {
  const Stage& s = stages_[stage];
  const auto read = [&](std::size_t line_read) -> const float* {
    return stage == 0 ? sums_of(line_read, sums) : line(stage, line_read);
  };
  // where there is no line before or after, no point has a neighbour in it
  const std::size_t before = at >= s.reach ? at - s.reach : at;
  const std::size_t after = at + s.reach < lattice_.lines() ? at + s.reach : at;
  const std::size_t count = lattice_.begin(at + 1) - lattice_.begin(at);
  float* const into = stage + 1 == stages_.size() ? sums + lattice_.begin(at) * width_
                                                  : line(stage + 1, at);
  loops_.blur_line({lattice_.neighbours(s.axis) + lattice_.begin(at), count, read(at),
                    read(before), read(after), zeros_.data()},
                   into, width_);
}

void LineBlur::run(float* sums) {
  for (std::size_t newest = from_; newest < end_ + overlap_; ++newest)
    for (std::size_t i = 0; i < stages_.size(); ++i) {
      const Stage& s = stages_[i];
      if (newest >= s.lag + s.begin && newest < s.lag + s.end) blur(i, newest - s.lag, sums);
    }
}

}  // namespace caffe_port::crf
