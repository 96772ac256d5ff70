#include "rft/engine/iteration_log.h"

#include "rft/core/clock.h"
#include "rft/tensor/cost_timer.h"

namespace rft {
namespace {

constexpr size_t kListed = 512;

// What this thread has spent in kernels so far.
IterationCost InKernels() {
  return {.matmul_s = CostSeconds(Cost::kMatmul),
          .attention_s = CostSeconds(Cost::kAttention),
          .rowwise_s = CostSeconds(Cost::kRowwise),
          .sampling_s = CostSeconds(Cost::kSampling)};
}

}  // namespace

void IterationLog::Begin() {
  now_ = {};
  before_ = InKernels();
  start_s_ = Clock::Default().NowSeconds();
}

void IterationLog::End(EngineStats& stats) {
  now_.busy_s = Clock::Default().NowSeconds() - start_s_;
  const IterationCost total = InKernels();
  now_.matmul_s = total.matmul_s - before_.matmul_s;
  now_.attention_s = total.attention_s - before_.attention_s;
  now_.rowwise_s = total.rowwise_s - before_.rowwise_s;
  now_.sampling_s = total.sampling_s - before_.sampling_s;
  now_.index = stats.iterations++;
  stats.busy_s += now_.busy_s;
  stats.matmul_s += now_.matmul_s;
  stats.attention_s += now_.attention_s;
  stats.rowwise_s += now_.rowwise_s;
  stats.sampling_s += now_.sampling_s;
  if (now_.prefill_tokens + now_.decode_tokens == 0) return;
  if (recent_.size() == kListed) recent_.pop_front();
  recent_.push_back(now_);
}

}  // namespace rft
