// The gradient of a step: what each kind of forward_backward adds to it, until optim_step has used it or zero_grad forgets it.
//
// A pass is cut into micro-batches. Gradients are raw sums over them and over passes, and so are denominators: one division, in
// optim_step, whatever the split. REQUIRES of all passes: datums that are valid and weights that are trained here alone
// (LocalTrainer's checks). A pass that fails leaves no gradient at all.
// Thread safety: belongs to the trainer's thread.
#pragma once

#include <cstdint>

#include <ATen/core/Tensor.h>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "losses/loss.h"
#include "losses/preference_loss.h"
#include "rft/train/packed_forward.h"
#include "rft/train/trained_weights.h"
#include "rft/train/trainer.h"

namespace rft {

class GradientAccumulator {
 public:
  using Result = absl::StatusOr<ForwardBackwardResult>;

  // All must outlive it; the options may change between passes.
  GradientAccumulator(const TrainerOptions& options, PackedForward& forward,
                      const TrainedWeights& weights)
      : options_(options), forward_(forward), weights_(weights) {}
  // The next trainer of these parameters begins with no gradient.
  ~GradientAccumulator() {
    if (!empty()) Clear();
  }

  // `step`: optimizer steps taken so far; an adapter's dropout depends on it.
  Result AddPolicy(absl::Span<const Datum> datums, const Loss& loss, const LossConfig& config,
                   int64_t step);
  // What `loss` makes of the log-probabilities of a forward that comes before.
  Result AddCustom(absl::Span<const Datum> datums, const CustomLoss& loss, int64_t step);
  // `gradient` false: the loss and its metrics only.
  Result AddPreference(absl::Span<const Datum> datums, const PreferenceLoss& loss,
                       const PreferenceConfig& config, bool gradient, int64_t step);
  Result AddDistillation(absl::Span<const Datum> datums, const Description& teacher,
                         const DistillationConfig& config, int64_t step);

  bool empty() const { return !accumulated_; }
  bool poisoned() const { return poisoned_; }  // a NaN or Inf was seen
  // Makes a mean of the sum.
  double scale() const { return denominator_ > 0.0 ? 1.0 / denominator_ : 1.0; }
  void Clear();
  // As Clear, of a gradient that a step has cleared on its way.
  void Forget();

 private:
  // The loss of a micro-batch, to be differentiated.
  using BatchLoss = absl::FunctionRef<at::Tensor(const MicroBatch&, const ModelWeights&, Routing&)>;
  // Adds up the gradients of `loss` over micro-batches, and their counts in `result`.
  void OverMicroBatches(absl::Span<const Datum> datums, int64_t step, BatchLoss loss,
                        ForwardBackwardResult& result);
  // Adds to the gradient; a sum that is not finite poisons the step instead.
  void Backward(const at::Tensor& sum, bool& finite);
  Result Accumulated(Result result);

  const TrainerOptions& options_;
  PackedForward& forward_;
  const TrainedWeights& weights_;
  double denominator_ = 0.0;
  uint64_t num_passes_ = 0;  // since the last clear
  bool accumulated_ = false;
  bool poisoned_ = false;
};

}  // namespace rft
