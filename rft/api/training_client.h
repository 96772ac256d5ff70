// The Training API's verbs. The built-in orchestrator is just the first client: whatever a managed run does, a user's own
// loop can do. Torch-free; implementation rft/train/trainer.h.
//
// Semantics: forward_backward adds the raw (un-normalised) gradient of the loss sum to the accumulated gradient and adds
// its denominator to the accumulated denominator; optim_step divides one by the other, clips, steps, and clears both.
// So the result does not depend on how a step is split into calls or micro-batches.
//
// Threading: calls for one client execute in the order made; a client may be used from one thread at a time. Different clients
// (of models, or of adapters of one base) may run at the same time. For a verb in the background: std::async, or Python's submit.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "rft/api/datum.h"
#include "rft/api/inference_engine.h"
#include "rft/core/loss_config.h"

namespace rft {

// From per-token log-probabilities (one vector per datum, aligned as in datum.h) to the loss sum and d loss / d logprob.
struct CustomLossResult {
  double loss_sum = 0.0;
  std::vector<std::vector<float>> dlogprobs;
  double denominator = 1.0;
  std::map<std::string, double> metrics;
};
using CustomLoss = std::function<absl::StatusOr<CustomLossResult>(
    const std::vector<std::vector<float>>& logprobs)>;

class TrainingClient {
 public:
  virtual ~TrainingClient() = default;

  // Errors of the three: kInvalidArgument names the datum and the field (length mismatch, id out of vocabulary, longer
  // than the context, weight on token 0), and nothing has changed. kResourceExhausted when memory runs out half-way: the
  // accumulated gradient is cleared then, so that a part of a batch is never stepped on.
  virtual absl::StatusOr<ForwardResult> Forward(absl::Span<const Datum> datums) = 0;
  virtual absl::StatusOr<ForwardBackwardResult> ForwardBackward(absl::Span<const Datum> datums,
                                                                const LossConfig& loss) = 0;
  virtual absl::StatusOr<ForwardBackwardResult> ForwardBackwardCustom(
      absl::Span<const Datum> datums, const CustomLoss& loss) = 0;

  // Divides the accumulated gradient by the accumulated denominator, clips, steps the optimizer, clears the gradient.
  // kFailedPrecondition if nothing has been accumulated; kInvalidArgument names the parameter. A non-finite gradient: skipped = true and nothing changes.
  // kResourceExhausted: nothing has changed, the accumulated gradient included; the call may be made again.
  virtual absl::StatusOr<OptimStepResult> OptimStep(const AdamParams& params) = 0;
  virtual void ZeroGrad() = 0;

  // Weights, optimizer state and step count into / from an existing folder; parameters by name. When LoadState fails, nothing
  // has changed.
  virtual absl::Status SaveState(const std::string& dir) = 0;
  virtual absl::Status LoadState(const std::string& dir) = 0;

  // A Hugging Face folder (config.json, safetensors, tokenizer files copied from where the model came from); a trained
  // adapter is merged into it.
  virtual absl::Status SaveModel(const std::string& dir) = 0;

  // The trained adapter in PEFT's format. kFailedPrecondition where the whole model is trained.
  virtual absl::Status SaveAdapter(const std::string& /*dir*/) {
    return absl::FailedPreconditionError(
        "save_adapter: the whole model is trained, not an adapter");
  }

  // The current weights, for InferenceEngine::Publish: a pointer, not a copy.
  virtual absl::StatusOr<std::shared_ptr<const PublishedWeights>> SaveWeightsForSampler() = 0;

  // Completions of the weights as they are now: result[i][s] is sample s of request i. Waits for at most `deadline_s` seconds.
  // Errors: GenerateAll's; kFailedPrecondition for a client that has no engine.
  virtual absl::StatusOr<std::vector<std::vector<Completion>>> Sample(
      std::vector<GenerateRequest> /*requests*/, double /*deadline_s*/) {
    return absl::FailedPreconditionError("sample: this client has no engine");
  }
};

}  // namespace rft
