#include "rft/tensor/parallel.h"

#include <omp.h>
#include <sched.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <thread>

#include "rft/tensor/thread_pool.h"

namespace rft {
namespace {

std::atomic<int> g_threads{0};

// Pieces shrink towards the end (guided self-scheduling): long ones first, so that what a thread reads lies together; short
// ones last, so that the threads end together even when a core is slower or other programs use it.
constexpr int64_t kMaxPieces = 64;

struct Pieces {
  std::array<int64_t, kMaxPieces + 1> begin{};  // piece i is [begin[i], begin[i + 1])
  int64_t count = 0;
};

Pieces Split(int64_t n, int64_t grain, int64_t threads) {
  Pieces pieces;
  for (int64_t done = 0; done < n;) {
    const int64_t left = n - done, share = (left + 2 * threads - 1) / (2 * threads);
    int64_t size = std::max(share, grain);
    if (left - size < grain || pieces.count + 1 == kMaxPieces) size = left;
    done += size;
    pieces.begin[++pieces.count] = done;
  }
  return pieces;
}

int NumCores() {
  static const int cores = [] {
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof(set), &set) == 0) return std::max(1, CPU_COUNT(&set));
    return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  }();
  return cores;
}

}  // namespace

int NumThreads() {
  const int n = g_threads.load(std::memory_order_relaxed);
  return n > 0 ? n : NumCores();
}

void SetNumThreads(int n) { g_threads.store(std::max(n, 0), std::memory_order_relaxed); }

void ParallelFor(int64_t n, int64_t grain, const std::function<void(int64_t, int64_t)>& body) {
  if (n <= 0) return;
  grain = std::max<int64_t>(grain, 1);
  const int64_t threads = NumThreads();
  if (threads <= 1 || n < 2 * grain || ThreadPool::InsidePiece()) {
    body(0, n);
    return;
  }
  const Pieces pieces = Split(n, grain, threads);
  ThreadPool::Shared().Run(static_cast<int>(threads), pieces.count,
                           [&](int64_t i) { body(pieces.begin[i], pieces.begin[i + 1]); });
}

void ParallelTasks(int64_t n, int64_t work, const std::function<void(int64_t)>& body) {
  const int threads = work < 2 * kMinParallelWork ? 1 : NumThreads();
  ThreadPool::Shared().Run(threads, n, body);
}

SerialOpenMp::SerialOpenMp() : threads_(omp_get_max_threads()) { omp_set_num_threads(1); }
SerialOpenMp::~SerialOpenMp() { omp_set_num_threads(threads_); }

}  // namespace rft
