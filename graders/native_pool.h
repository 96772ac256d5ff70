// Threads that run C++ graders under a deadline.
//
// A thread can't be killed: a call that is not back by its deadline is answered with Timeout, its thread is let go (it
// ends when the call returns, if it ever does; that late answer is only counted), and a new thread takes its place, so
// that the others keep their pace. After kMaxLost such calls nothing more is started: everything is a GradeError.
//
// Exceptions and non-finite scores become a GradeError.
// Thread safety: all members from any thread, Shutdown not from a `done`.
#pragma once

#include <atomic>
#include <functional>
#include <memory>

#include "graders/async_grader.h"

namespace rft {

class NativePool {
 public:
  static constexpr int kMaxLost = 64;

  struct Stats {
    int64_t num_timeouts = 0;      // calls that were not back in time
    int64_t num_late_answers = 0;  // of those, the calls that came back after all
  };

  // `num_threads` >= 1.
  explicit NativePool(int num_threads);
  ~NativePool();  // Shutdown
  NativePool(const NativePool&) = delete;
  NativePool& operator=(const NativePool&) = delete;

  // `done` is called exactly once, on a thread of the pool: with the grade, Timeout `deadline_s` after the call began, or
  // GradeError("shut down").
  void Run(std::shared_ptr<const Grader> grader, std::shared_ptr<const GradeJob> job,
           double deadline_s, std::function<void(Grade)> done);

  // Answers what has not finished; waits a second for running calls to come back and lets go of their threads otherwise.
  // Run still answers afterwards, until destruction.
  void Shutdown();

  Stats stats() const;

 private:
  struct State;
  std::shared_ptr<State> state_;  // shared with threads that may outlive this object
};

}  // namespace rft
