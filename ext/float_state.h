// The calling thread's floating-point state, changed for a scope and restored.
//
// Denormals slow the lattice three to four times and mean nothing there, so they are flushed
// to zero while a FlushDenormals lives. Rounding goes to nearest even, which the lattice needs.
#pragma once

#include <cfenv>
#include <cstdint>

#if defined(__SSE__)
#include <xmmintrin.h>
#endif

namespace caffe_port::crf {

class FlushDenormals {
 public:
  FlushDenormals() {
    std::fegetenv(&saved_);
    std::fesetenv(FE_DFL_ENV);
#if defined(__SSE__)
    constexpr unsigned flush_to_zero = 0x8000, denormals_are_zero = 0x0040;
    _mm_setcsr(_mm_getcsr() | flush_to_zero | denormals_are_zero);
#elif defined(__aarch64__)
    constexpr std::uint64_t flush_to_zero = std::uint64_t{1} << 24;
    std::uint64_t control;
    asm volatile("mrs %0, fpcr" : "=r"(control));
    asm volatile("msr fpcr, %0" : : "r"(control | flush_to_zero));
#endif
  }
  ~FlushDenormals() { std::fesetenv(&saved_); }
  FlushDenormals(const FlushDenormals&) = delete;
  FlushDenormals& operator=(const FlushDenormals&) = delete;

 private:
  std::fenv_t saved_;
};

}  // namespace caffe_port::crf
