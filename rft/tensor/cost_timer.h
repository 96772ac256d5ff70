// Where the time goes: each kernel adds the wall time of its calls, waiting for its threads included, to a total of the thread
// that called it. Two readings of the clock a call (some 60 ns), so it is always on. Torch-free.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>

namespace rft {

enum class Cost : uint8_t {
  kMatmul,
  kAttention,
  kRowwise,
  kSampling
};  // kRowwise: norms, rotary, SwiGLU, gathers

// Nanoseconds of this thread since it began, by Cost.
inline thread_local std::array<int64_t, 4> cost_ns{};
inline double CostSeconds(Cost cost) {
  return 1e-9 * static_cast<double>(cost_ns[static_cast<size_t>(cost)]);
}

// Adds the time of its life. Timers don't nest.
class CostTimer {
 public:
  explicit CostTimer(Cost cost) : cost_(cost), start_(std::chrono::steady_clock::now()) {}
  ~CostTimer() {
    cost_ns[static_cast<size_t>(cost_)] += std::chrono::duration_cast<std::chrono::nanoseconds>(
                                               std::chrono::steady_clock::now() - start_)
                                               .count();
  }
  CostTimer(const CostTimer&) = delete;
  CostTimer& operator=(const CostTimer&) = delete;

 private:
  const Cost cost_;
  const std::chrono::steady_clock::time_point start_;
};

}  // namespace rft
