// Splits a loop over the cores (thread_pool.h). Torch-free.
// No sum is ever split: what a loop computes doesn't depend on the number of threads or on who computes which piece.
#pragma once

#include <cstdint>
#include <functional>

namespace rft {

// Threads that ParallelFor uses: SetNumThreads, or all cores. >= 1.
int NumThreads();
void SetNumThreads(int n);  // 0 = all cores

// Calls body(begin, end) on contiguous pieces that cover [0, n), a few per thread and at least `grain` long. Serial when
// n < 2 * grain or inside another ParallelFor. `body` must not throw.
void ParallelFor(int64_t n, int64_t grain,
                 const std::function<void(int64_t begin, int64_t end)>& body);

// Hands out the indices [0, n) one by one to whichever thread is free: for tasks of unequal size. `work` is the total
// number of element operations (a multiply-add counts as one): too little of it runs serially.
void ParallelTasks(int64_t n, int64_t work, const std::function<void(int64_t index)>& body);

// While it lives, torch's own operators that this thread calls run on this thread alone. Theirs are a percent of a training
// step, but each would wake OpenMP's threads, which then spin on the cores that ours need.
class SerialOpenMp {
 public:
  SerialOpenMp();
  ~SerialOpenMp();
  SerialOpenMp(const SerialOpenMp&) = delete;
  SerialOpenMp& operator=(const SerialOpenMp&) = delete;

 private:
  int threads_;
};

// Element operations below which waking a second thread costs more than it gains. On a busy machine a barrier may
// wait for a whole time slice, so small models must not have one per operator.
inline constexpr int64_t kMinParallelWork = 1 << 16;

// The `grain` for ParallelFor when one index stands for `work` element operations.
inline int64_t GrainFor(int64_t work) {
  return work >= kMinParallelWork ? 1 : kMinParallelWork / (work > 0 ? work : 1);
}

}  // namespace rft
