#include "rft/tensor/parallel.h"

#include <atomic>
#include <chrono>
#include <set>
#include <thread>

#include "rft/tensor/thread_pool.h"

#include <gtest/gtest.h>

namespace rft {
namespace {

class ParallelTest : public ::testing::Test {
 protected:
  ~ParallelTest() override { SetNumThreads(0); }
};

// Every piece waits until the other one has begun, so one thread alone could not finish (10 s: then the test fails).
TEST_F(ParallelTest, RunsOnTwoThreadsWhenAskedTo) {
  SetNumThreads(2);
  std::atomic<int> begun{0}, met{0};
  ParallelFor(2, 1, [&](int64_t, int64_t) {
    ++begun;
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
    while (begun < 2 && std::chrono::steady_clock::now() < deadline) std::this_thread::yield();
    met += begun == 2;
  });
  EXPECT_EQ(met, 2);
}

TEST_F(ParallelTest, ServesSeveralCallersAtOnce) {
  SetNumThreads(2);
  std::atomic<int64_t> sum{0};
  std::vector<std::thread> callers;
  for (int c = 0; c < 4; ++c)
    callers.emplace_back([&] {
      for (int round = 0; round < 500; ++round)
        ParallelFor(16, 1, [&](int64_t begin, int64_t end) { sum += end - begin; });
    });
  for (std::thread& t : callers) t.join();
  EXPECT_EQ(sum, 4 * 500 * 16);
}

TEST(ThreadPoolTest, WakesThreadsThatHaveGoneToSleep) {
  ThreadPool pool;
  for (int round = 0; round < 5; ++round) {
    std::atomic<int> calls{0};
    pool.Run(3, 8, [&](int64_t) { ++calls; });
    EXPECT_EQ(calls, 8);
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
}

TEST(ThreadPoolTest, EndsWithThreadsAsleepAndAwake) {
  for (int ms : {0, 2}) {
    ThreadPool pool;
    pool.Run(4, 4, [](int64_t) {});
    std::this_thread::sleep_for(std::chrono::milliseconds(ms));
  }
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
  ParallelFor(15, 8, [&](int64_t begin, int64_t end) { calls += end - begin == 15 ? 1 : 100; });
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
  EXPECT_GE(NumThreads(), 1);
  EXPECT_LE(NumThreads(), static_cast<int>(std::thread::hardware_concurrency()));
}

}  // namespace
}  // namespace rft
