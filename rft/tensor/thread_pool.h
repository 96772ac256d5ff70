// The threads behind ParallelFor. Torch-free.
//
// Why not OpenMP: its idle threads sleep as soon as there are more OpenMP pools than cores (every calling thread has one), and
// a decode iteration has hundreds of loops of 20 to 500 us: waking by the kernel cost a fifth of the time. Here the pieces
// of a loop are claimed one by one, by the caller too, so a thread that is late, descheduled or gone (after fork) delays
// nobody, and unequal cores share the work by themselves.
//
// Threading: Run may be called from any thread. One loop runs at a time; a caller that finds the pool busy, or that is itself
// inside a piece, computes all its pieces alone.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace rft {

class ThreadPool {
 public:
  static ThreadPool& Shared();  // never destroyed: loops may run while the process ends
  ThreadPool() = default;
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  // Calls body(i) once for every i in [0, pieces), on the caller and at most `threads - 1` others; returns when all are
  // done. `body` must not throw.
  void Run(int threads, int64_t pieces, const std::function<void(int64_t)>& body);

  static bool InsidePiece();  // is this thread computing a piece of any pool's loop?

 private:
  void Work(int index);
  // Claims and computes pieces of loop `loop` until none is left.
  void Help(uint32_t loop);
  void StartWorkers(int count);

  // Loop number (high half) and next piece (low half) in one word: a claim can't hit another loop than the one it meant.
  std::atomic<uint64_t> next_{0};
  std::atomic<const std::function<void(int64_t)>*> body_{nullptr};
  std::atomic<uint32_t> pieces_{0};
  std::atomic<int> helpers_{0};  // workers [0, helpers_) take part in the current loop
  std::atomic<uint32_t> done_{0};

  std::mutex run_mutex_;  // held by the caller whose loop this is
  std::mutex sleep_mutex_;
  std::condition_variable wake_;
  std::atomic<int> sleeping_{0};
  std::atomic<bool> stopping_{false};
  std::vector<std::thread> workers_;
};

}  // namespace rft
