#include "rft/tensor/parallel.h"

#include <omp.h>
#include <sched.h>

#include <algorithm>
#include <atomic>
#include <thread>

#include "rft/tensor/thread_pool.h"

namespace rft {
namespace {

std::atomic<int> g_threads{0};

// Pieces per thread: enough that a core that others also use holds nobody up, few enough that claiming them costs nothing.
constexpr int64_t kPiecesPerThread = 4;

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
  const int64_t threads = NumThreads();
  const int64_t pieces = std::min(threads * kPiecesPerThread, n / std::max<int64_t>(grain, 1));
  if (threads <= 1 || pieces <= 1 || ThreadPool::InsidePiece()) {
    if (n > 0) body(0, n);
    return;
  }
  ThreadPool::Shared().Run(static_cast<int>(threads), pieces, [&](int64_t i) {
    const int64_t begin = n * i / pieces, end = n * (i + 1) / pieces;
    if (begin < end) body(begin, end);
  });
}

void ParallelTasks(int64_t n, int64_t work, const std::function<void(int64_t)>& body) {
  const int threads = work < 2 * kMinParallelWork ? 1 : NumThreads();
  ThreadPool::Shared().Run(threads, n, body);
}

SerialOpenMp::SerialOpenMp() : threads_(omp_get_max_threads()) { omp_set_num_threads(1); }
SerialOpenMp::~SerialOpenMp() { omp_set_num_threads(threads_); }

}  // namespace rft
