// The lattice and the mean field on bytes: no sanitizer complains, results are finite, and neither
// threads nor instruction sets change an exact result. With libFuzzer, or with the main below.
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <random>
#include <stdexcept>
#include <vector>

#include "mean_field.h"

using namespace caffe_port::crf;

namespace {

// Arguments out of bytes; zeros when they are used up.
struct Draw {
  const std::uint8_t* data;
  std::size_t left;

  std::uint8_t byte() { return left ? (--left, *data++) : 0; }
  int below(int limit) { return byte() % limit; }
  float number() {
    const int kind = below(32);
    if (kind < 28) return static_cast<float>(byte() - 100) / 16;
    std::uint8_t raw[4];
    for (auto& part : raw) part = byte();
    float value;
    std::memcpy(&value, raw, 4);
    // what Python lets through: finite features and weights
    return std::isfinite(value) ? value : 1e30f;
  }
  std::vector<float> numbers(std::size_t count) {
    std::vector<float> few(9), result(count);
    for (auto& value : few) value = number();
    for (std::size_t i = 0; i < count; ++i) result[i] = few[i * 7 % 9] + static_cast<float>(i % 5);
    return result;
  }
};

void check(bool good, const char* what) {
  if (good) return;
  std::fprintf(stderr, "%s\n", what);
  std::abort();
}

struct Result {
  bool thrown = false;
  std::vector<float> q;
  std::vector<std::int32_t> best;
};

struct Case {
  std::size_t height, width, labels;
  int dimension, kind, iterations;
  Normalization normalization;
  bool exact, adjoint, normalise;
  std::vector<float> features, unary, matrix;
  float weight;
  bool with_matrix;

  explicit Case(Draw& draw)
      : height(1 + draw.below(9)), width(1 + draw.below(9)), labels(1 + draw.below(40)),
        dimension(1 + draw.below(8)), kind(draw.below(3)), iterations(draw.below(4)),
        normalization(static_cast<Normalization>(draw.below(4))), exact(draw.below(2)),
        adjoint(draw.below(4) == 0), normalise(draw.below(4) != 0) {
    features = draw.numbers(height * width * 8);
    unary = draw.numbers(height * width * labels);
    if (draw.below(4) == 0)  // rules a label out, though not all of a pixel's
      for (std::size_t i = 0; i < unary.size() - height * width; i += 3)
        unary[i] = std::numeric_limits<float>::infinity();
    matrix = draw.numbers(labels * labels);
    weight = draw.number();
    with_matrix = draw.below(2);
  }

  Result run(int threads, const char* instructions) const {
    Result result;
    check(choose_path(instructions), "no such path");
    Features given{};
    given.height = height, given.width = width;
    given.dimension = kind == 0 ? dimension : kind == 1 ? 2 : 5;
    if (kind == 0) given.rows = features.data();
    for (auto& width : given.position_width) width = 0.01f + std::fabs(features[0]);
    for (auto& width : given.colour_width) width = 0.01f + std::fabs(features[1]);
    if (kind == 2) given.floats = features.data();
    try {
      const Kernel kernel(given, normalization, exact, threads);
      result.q.resize(unary.size());
      result.best.resize(height * width);
      Problem problem;
      problem.labels = labels, problem.height = height, problem.width = width;
      problem.unary = unary.data();
      problem.terms.push_back({&kernel, weight, with_matrix ? matrix.data() : nullptr});
      problem.iterations = iterations, problem.threads = threads, problem.exact = exact;
      problem.exponential = exact ? Exponential::kExact : Exponential::kCutOff;
      problem.adjoint = adjoint, problem.normalise = normalise || iterations == 0;
      problem.q = result.q.data(), problem.best = result.best.data();
      mean_field(problem);
      for (const float value : result.q)
        check(!problem.normalise || (value >= 0 && value <= 1.001f), "no probability");
      for (const std::int32_t label : result.best)
        check(label >= 0 && label < static_cast<std::int32_t>(labels), "no label");
    } catch (const std::range_error&) {  // a feature too large
      result.thrown = true;
    } catch (const std::overflow_error&) {  // weights too large
      result.thrown = true;
    }
    return result;
  }
};

bool same(const Result& a, const Result& b) {
  if (a.thrown || b.thrown) return a.thrown == b.thrown;
  return a.best == b.best && std::memcmp(a.q.data(), b.q.data(), a.q.size() * sizeof(float)) == 0;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Draw draw{data, size};
  const Case made(draw);
  const Result one = made.run(1, "best");
  check(same(one, made.run(2, "best")), "two threads give another result than one");
  if (made.exact) check(same(one, made.run(1, "portable")), "instruction sets differ");
  return 0;
}

#ifdef STANDALONE
// So many random inputs, for machines without libFuzzer: lattice_fuzzer COUNT [SEED]
int main(int count, char** arguments) {
  const int inputs = count > 1 ? std::atoi(arguments[1]) : 1000;
  std::mt19937 random(count > 2 ? std::atoi(arguments[2]) : 0);
  for (int i = 0; i < inputs; ++i) {
    std::vector<std::uint8_t> data(random() % 200);
    for (auto& byte : data) byte = static_cast<std::uint8_t>(random());
    LLVMFuzzerTestOneInput(data.data(), data.size());
  }
  std::printf("%d inputs\n", inputs);
}
#endif
