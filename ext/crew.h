// A few threads that do work together, step by step.
#pragma once

#include <atomic>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

#include "float_state.h"

namespace caffe_port::crf {

// All threads leave wait() when the last one has entered it. It spins for a while before it sleeps.
class Barrier {
 public:
  explicit Barrier(int members) : members_(members), missing_(members) {}

  void wait() {
    if (members_ == 1) return;
    const unsigned round = round_.load(std::memory_order_acquire);
    if (missing_.fetch_sub(1, std::memory_order_acq_rel) == 1) {
      missing_.store(members_, std::memory_order_relaxed);
      const std::lock_guard<std::mutex> guard(mutex_);
      round_.store(round + 1, std::memory_order_release);
      opened_.notify_all();
      return;
    }
    for (int turn = 0; turn < kTurns; ++turn)
      if (round_.load(std::memory_order_acquire) != round) return;
    std::unique_lock<std::mutex> lock(mutex_);
    opened_.wait(lock, [&] { return round_.load(std::memory_order_acquire) != round; });
  }

 private:
  static constexpr int kTurns = 20000;
  const int members_;
  std::atomic<int> missing_;
  std::atomic<unsigned> round_{0};
  std::mutex mutex_;
  std::condition_variable opened_;
};

// Calls work(0) to work(members - 1), each in a thread of its own (work(0) in the caller's), all
// flushing denormals. What one of them throws is thrown when all have ended; work that meets at a
// barrier must not throw. Throws std::system_error, and calls none, when the system gives fewer
// threads.
template <class Work>
void in_parallel(int members, Work work) {
  std::vector<std::exception_ptr> errors(members);
  std::vector<std::thread> others;
  others.reserve(members);
  std::mutex starting;  // held until all threads are there: fewer would wait at a barrier for ever
  bool complete = true;
  const auto guarded = [&](int member) {
    {
      const std::lock_guard<std::mutex> started(starting);
      if (!complete) return;
    }
    const FlushDenormals flush;
    try {
      work(member);
    } catch (...) {
      errors[member] = std::current_exception();
    }
  };
  {
    const std::lock_guard<std::mutex> start(starting);
    try {
      for (int member = 1; member < members; ++member) others.emplace_back(guarded, member);
    } catch (...) {
      complete = false;
      errors[0] = std::current_exception();
    }
  }
  guarded(0);
  for (std::thread& other : others) other.join();
  for (const std::exception_ptr& error : errors)
    if (error) std::rethrow_exception(error);
}

}  // namespace caffe_port::crf
