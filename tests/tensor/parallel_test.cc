#include "rft/tensor/parallel.h"

#include <omp.h>

#include <atomic>
#include <mutex>
#include <set>

#include <gtest/gtest.h>

namespace rft {
namespace {

class ParallelTest : public ::testing::Test {
 protected:
  ~ParallelTest() override { SetNumThreads(0); }
};

TEST_F(ParallelTest, RunsOnTwoThreadsWhenAskedTo) {
  SetNumThreads(2);
  std::mutex mutex;
  std::set<int> threads;
  ParallelFor(2, 1, [&](int64_t, int64_t) {
    std::lock_guard lock(mutex);
    threads.insert(omp_get_thread_num());
  });
  EXPECT_EQ(threads.size(), 2u);
}

TEST_F(ParallelTest, CoversEveryIndexOnce) {
  for (int threads : {1, 2, 5})
    for (int64_t n : {0, 1, 2, 7, 100}) {
      SetNumThreads(threads);
      std::vector<std::atomic<int>> seen(n), tasks(n);
      ParallelFor(n, 3, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) ++seen[i];
      });
      ParallelTasks(n, kMinParallelWork * 4, [&](int64_t i) { ++tasks[i]; });
      for (int64_t i = 0; i < n; ++i)
        EXPECT_TRUE(seen[i] == 1 && tasks[i] == 1) << i << " of " << n;
    }
}

TEST_F(ParallelTest, StaysOnOneThreadBelowTheGrain) {
  SetNumThreads(2);
  std::atomic<int> calls{0};
  ParallelFor(8, 8, [&](int64_t begin, int64_t end) { calls += end - begin == 8 ? 1 : 100; });
  EXPECT_EQ(calls, 1);
}

TEST_F(ParallelTest, RunsSeriallyInsideAnotherLoop) {
  SetNumThreads(2);
  std::atomic<int> inner{0};
  ParallelFor(2, 1,
              [&](int64_t, int64_t) { ParallelFor(100, 1, [&](int64_t, int64_t) { ++inner; }); });
  EXPECT_EQ(inner, 2);  // one piece for each of the two
}

TEST_F(ParallelTest, UsesAllCoresByDefault) {
  SetNumThreads(0);
  EXPECT_EQ(NumThreads(), omp_get_num_procs());
}

}  // namespace
}  // namespace rft
