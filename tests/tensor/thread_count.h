// Sets the number of threads for a scope. Most tests ask for one: parallel regions of tiny models are all barrier, and on a
// busy machine a barrier of two threads waits for the other's time slice.
#pragma once

#include "rft/tensor/parallel.h"

namespace rft::testing {

class ThreadCount {
 public:
  explicit ThreadCount(int n) { SetNumThreads(n); }
  ~ThreadCount() { SetNumThreads(0); }
  ThreadCount(const ThreadCount&) = delete;
  ThreadCount& operator=(const ThreadCount&) = delete;
};

}  // namespace rft::testing
