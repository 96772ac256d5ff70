#include "rft/tensor/parallel.h"

#include <omp.h>

#include <algorithm>
#include <atomic>

namespace rft {
namespace {

std::atomic<int> g_threads{0};

}  // namespace

int NumThreads() {
  const int n = g_threads.load(std::memory_order_relaxed);
  return n > 0 ? n : omp_get_num_procs();
}

void SetNumThreads(int n) { g_threads.store(std::max(n, 0), std::memory_order_relaxed); }

void ParallelFor(int64_t n, int64_t grain, const std::function<void(int64_t, int64_t)>& body) {
  const int64_t pieces = std::min<int64_t>(NumThreads(), n / std::max<int64_t>(grain, 1));
  if (pieces <= 1 || omp_in_parallel()) {
    if (n > 0) body(0, n);
    return;
  }
#pragma omp parallel num_threads(static_cast <int>(pieces))
  {
    const int64_t i = omp_get_thread_num(), parts = omp_get_num_threads();
    const int64_t begin = n * i / parts, end = n * (i + 1) / parts;
    if (begin < end) body(begin, end);
  }
}

void ParallelTasks(int64_t n, int64_t work, const std::function<void(int64_t)>& body) {
  if (n <= 1 || work < 2 * kMinParallelWork || NumThreads() == 1 || omp_in_parallel()) {
    for (int64_t i = 0; i < n; ++i) body(i);
    return;
  }
#pragma omp parallel for schedule(dynamic, 1) num_threads(NumThreads())
  for (int64_t i = 0; i < n; ++i) body(i);
}

}  // namespace rft
