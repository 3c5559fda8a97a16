#include "mean_field.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>

#include "crew.h"
#include "line_blur.h"

namespace caffe_port::crf {
namespace {

// The values at a lattice's vertices, and their sums for the next blur, which works in place: what is
// added in a turn is read in the next.
//
// A kernel is n' S^T B_d ... B_0 S n with S the splat and B_j the blur along an axis, which is
// symmetric. So its transpose takes the axes in reverse and exchanges the two factors.
class Filter {
 public:
  Filter(const Kernel& kernel, std::size_t width, bool adjoint, bool exact, int parts)
      : lattice_(kernel.lattice()),
        before_(adjoint ? kernel.after() : kernel.before()),
        after_(adjoint ? kernel.before() : kernel.after()),
        width_(width),
        adjoint_(adjoint),
        parts_(parts),
        loops_(row_loops(width, exact)),
        rows_{Buffer(lattice_.rows() * width), Buffer(lattice_.rows() * width)} {
    if (!lattice_.in_lines()) return;
    for (int part = 0; part < parts; ++part)
      lines_.push_back(std::make_unique<LineBlur>(lattice_, width, loops_, adjoint, part, parts));
  }

  // Spreads block, the Q of a run, over the vertices.
  void add(int turn, int chunk, std::size_t number, const Run& run, const float* block) {
    float* const sums = rows_[turn % 2].data();
    loops_.clear(lattice_.met_first(chunk, number), sums, width_);
    const float* const factor = before_ ? before_ + run.begin : nullptr;
    loops_.splat(lattice_.corners(run.begin, run.count), block, factor, sums, width_);
  }

  // block = start + weight n (K Q), of what was added in the turn before.
  void apply(int turn, const Run& run, float weight, const float* start, float* block) const {
    const float* const factor = after_ ? after_ + run.begin : nullptr;
    loops_.slice(lattice_.corners(run.begin, run.count), rows_[(turn + 1) % 2].data(),
                 lattice_.alpha(), weight, factor, start, block, width_);
  }

  // Steps of the blur, each of which must be finished before the next.
  int steps() const { return 2 + (lattice_.in_lines() ? 2 : lattice_.axes()); }
  void blur(int turn, int step, int part) {
    float* const rows = rows_[(turn + 1) % 2].data();
    if (step == 0 && part == 0) loops_.clear(lattice_.unmet(), rows, width_);
    if (step == 0) return with_twins(loops_.join, rows, part);
    if (step == steps() - 1) return with_twins(loops_.part, rows, part);
    if (lattice_.in_lines())
      return step == 1 ? lines_[part]->take_aside(rows) : lines_[part]->run(rows);
    const int axis = adjoint_ ? lattice_.axes() - step : step - 1;
    loops_.blur_chains(lattice_.chains(axis, part, parts_), rows, width_);
  }

 private:
  template <class Loop>
  void with_twins(Loop loop, float* rows, int part) {
    for (int group = part; group < kChunks; group += parts_)
      loop(lattice_.twins(group).data(), lattice_.twins(group).size(), rows, width_);
  }

  const Lattice& lattice_;
  const float *before_, *after_;  // n, on either side
  std::size_t width_;
  bool adjoint_;
  int parts_;
  const RowLoops& loops_;
  Buffer rows_[2];  // values and sums, in turn
  std::vector<std::unique_ptr<LineBlur>> lines_;  // by part
};

class MeanField {
 public:
  explicit MeanField(const Problem& problem)
      : problem_(problem),
        width_(row_width(problem.labels)),
        loops_(row_loops(width_, problem.exact)),
        pixels_(problem.height * problem.width),
        order_(problem.height, problem.width, problem.exact),
        scores_(pixels_ * width_),
        barrier_(problem.threads) {
    std::fill(finite_, finite_ + kChunks, true);
    // all memory is taken here: a thread that ran out of it would leave the others at the barrier
    for (int member = 0; member < problem.threads; ++member)
      desks_.push_back(std::make_unique<Desk>(width_));
    for (const Term& term : problem.terms)
      filters_.push_back(std::make_unique<Filter>(*term.kernel, width_, problem.adjoint,
                                                  problem.exact, problem.threads));
  }

  void run() {
    in_parallel(problem_.threads, [&](int member) { work(member); });
    if (!std::all_of(finite_, finite_ + kChunks, [](bool finite) { return finite; }))
      throw std::overflow_error("a sum of energies left the range of float32");
  }

 private:
  // The rows of a run at work, and the sums of a term with a matrix.
  struct Desk {
    explicit Desk(std::size_t width) : block(kMostInRun * width), message(kMostInRun * width) {}
    Buffer block, message;
  };

  void work(int member) {
    Desk& desk = *desks_[member];
    for (int i = 0; i <= problem_.iterations; ++i) {
      const bool last = i == problem_.iterations;
      if (i > 0) blur(i, member);
      for (int chunk = member; chunk < kChunks; chunk += problem_.threads)
        sweep(desk, chunk, i, last);
      barrier_.wait();
    }
  }

  void blur(int turn, int member) {
    int most = 0;
    for (auto& filter : filters_) most = std::max(most, filter->steps());
    for (int step = 0; step < most; ++step) {
      for (auto& filter : filters_)
        if (step < filter->steps()) filter->blur(turn, step, member);
      barrier_.wait();
    }
  }

  // The new Q of a chunk, run after run. It is added to the lattices at once, or, at the end, output.
  void sweep(Desk& desk, int chunk, int turn, bool last) {
    const bool first = turn == 0;
    float* const block = desk.block.data();
    const std::vector<Run>& runs = order_.runs(chunk);
    for (std::size_t number = 0; number < runs.size(); ++number) {
      const Run& run = runs[number];
      float* const scores = scores_.data() + run.begin * width_;
      if (first) load(problem_.unary, -1.0f, run, scores);
      if (first || filters_.empty()) std::copy_n(scores, run.count * width_, block);
      if (!first)
        for (std::size_t k = 0; k < filters_.size(); ++k)
          apply(desk, k, turn, run, k == 0 ? scores : block);
      if (first && problem_.start != nullptr)
        load(problem_.start, 1.0f, run, block);
      else if (!last || problem_.normalise)
        finite_[chunk] &=
            loops_.softmax(problem_.exponential, run.count, problem_.labels, block, width_);
      if (number + 1 < runs.size()) fetch_next(runs[number + 1], first, last);
      if (!last)
        for (auto& filter : filters_) filter->add(turn, chunk, number, run, block);
      if (last && problem_.q != nullptr) store(block, run);
      if (last && problem_.best != nullptr) store_best(block, run);
    }
  }

  // The block becomes start and what the k-th term adds.
  void apply(Desk& desk, std::size_t k, int turn, const Run& run, const float* start) {
    const Term& term = problem_.terms[k];
    float *const block = desk.block.data(), *const message = desk.message.data();
    if (term.matrix == nullptr) return filters_[k]->apply(turn, run, term.weight, start, block);
    std::fill_n(message, run.count * width_, 0.0f);
    filters_[k]->apply(turn, run, 1.0f, message, message);
    if (start != block) std::copy_n(start, run.count * width_, block);
    for (std::size_t i = 0; i < run.count; ++i)
      for (std::size_t from = 0; from < problem_.labels; ++from)
        for (std::size_t to = 0; to < problem_.labels; ++to)
          block[i * width_ + to] -=
              term.matrix[from * problem_.labels + to] * message[i * width_ + from];
  }

  // Brings what the next run will read or write from afar closer.
  void fetch_next(const Run& run, bool first, bool last) const {
    if (!first) path().fetch_rows(scores_.data() + run.begin * width_, run.count * width_);
    if (first) path().fetch_planes({problem_.unary + run.pixel, pixels_, problem_.labels, run.count});
    if (last && problem_.q != nullptr)
      path().fetch_planes({problem_.q + run.pixel, pixels_, problem_.labels, run.count});
  }

  // rows = sign planes. Unused lanes get what becomes probability 0.
  void load(const float* planes, float sign, const Run& run, float* rows) const {
    const float unused = sign < 0 ? -std::numeric_limits<float>::infinity() : 0.0f;
    const Planes<const float> from = {planes + run.pixel, pixels_, problem_.labels, run.count};
    path().to_rows(from, sign, unused, rows, width_);
  }

  void store(const float* rows, const Run& run) const {
    path().to_planes(rows, width_, {problem_.q + run.pixel, pixels_, problem_.labels, run.count});
  }

  void store_best(const float* rows, const Run& run) const {
    for (std::size_t i = 0; i < run.count; ++i) {
      const float* const row = rows + i * width_;
      const float* const best = std::max_element(row, row + problem_.labels);
      problem_.best[run.pixel + i] = static_cast<std::int32_t>(best - row);
    }
  }

  const Problem& problem_;
  std::size_t width_;
  const RowLoops& loops_;
  std::size_t pixels_;
  PixelOrder order_;
  Buffer scores_;
  Barrier barrier_;
  std::vector<std::unique_ptr<Filter>> filters_;
  std::vector<std::unique_ptr<Desk>> desks_;  // by thread
  bool finite_[kChunks];
};

}  // namespace

Kernel::Kernel(const Features& features, Normalization normalization, bool exact, int threads)
    : lattice_(features, PixelOrder(features.height, features.width, exact), threads),
      before_(normalization == Normalization::kBefore || normalization == Normalization::kSymmetric),
      after_(normalization == Normalization::kAfter || normalization == Normalization::kSymmetric) {
  if (normalization == Normalization::kNone) return;
  // K 1: what the kernel makes of a constant one, as a problem of one label.
  const std::size_t pixels = features.height * features.width;
  factor_ = std::make_unique<Buffer>(pixels);
  Buffer zeros(pixels), sums(pixels);
  zeros.clear();
  before_ = after_ = false;
  Problem ones;
  ones.labels = 1;
  ones.height = features.height;
  ones.width = features.width;
  ones.unary = zeros.data();
  ones.terms = {{this, 1.0f, nullptr}};
  ones.iterations = 1;
  ones.normalise = false;
  ones.exact = exact;
  ones.threads = threads;
  ones.q = sums.data();
  mean_field(ones);
  before_ = normalization != Normalization::kAfter;
  after_ = normalization != Normalization::kBefore;
  const FlushDenormals flush;
  const PixelOrder order(features.height, features.width, exact);
  for (int chunk = 0; chunk < kChunks; ++chunk)
    for (const Run& run : order.runs(chunk))
      for (std::size_t i = 0; i < run.count; ++i) {
        const float sum = sums.data()[run.pixel + i];
        factor_->data()[run.begin + i] =
            normalization == Normalization::kSymmetric
                ? static_cast<float>(1.0 / std::sqrt(static_cast<double>(sum) + 1e-20))
                : 1.0f / (sum + 1e-20f);
      }
}

void mean_field(const Problem& problem) { MeanField(problem).run(); }

}  // namespace caffe_port::crf
