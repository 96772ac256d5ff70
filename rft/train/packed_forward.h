// A trainer's forward: from datums to packed micro-batches, and from those to what the model says of each wanted token.
//
// Shapes: T computed tokens, N predictions of a micro-batch (batcher.h). Log-probabilities are float32, in nats, of
// softmax(logits / temperature), and have the same bits however the datums are packed.
// Errors: Validate returns kInvalidArgument; all else throws c10::Error (tensor code). Not thread-safe.
#pragma once

#include <memory>
#include <vector>

#include <ATen/core/Tensor.h>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "rft/api/datum.h"
#include "rft/models/causal_lm.h"
#include "rft/train/batcher.h"
#include "rft/train/replay.h"
#include "rft/train/trainer.h"

namespace rft {

// A row of zeros per datum, as long as its ids.
std::vector<std::vector<float>> EmptyRows(absl::Span<const Datum> datums);
// Writes the micro-batch's predictions into the rows of their datums.
void Scatter(const MicroBatch& batch, const at::Tensor& values_N,
             std::vector<std::vector<float>>& rows);

class PackedForward {
 public:
  PackedForward(std::shared_ptr<const CausalLm> model, double temperature, bool replay_routes);

  // Names the datum and the field that this model can't take.
  absl::Status Validate(absl::Span<const Datum> datums) const;
  // With the experts that the datums ask for, where routes are replayed. Must outlive the backward.
  Routing MakeRouting(absl::Span<const Datum> datums, const MicroBatch& batch) const;

  // Hidden states [N, H] of the positions that predict; with a graph when gradients are enabled. One graph at a time: the next call
  // may end what an earlier one's backward needs.
  at::Tensor WantedStates(const ModelWeights& weights, const MicroBatch& batch, Routing& routing);
  // Log-probabilities [N] of the predictions; their entropies [N] and states [N, H], too, where the pointers are not null. The
  // states are on the model's device, what is in nats on the CPU.
  at::Tensor Logprobs(const ModelWeights& weights, const MicroBatch& batch, Routing& routing,
                      at::Tensor* entropy_N = nullptr, at::Tensor* hidden_NH = nullptr);
  // Log-probabilities of other targets than the predictions', on the CPU: targets_NK [N, K], int64.
  at::Tensor LogprobsOf(const at::Tensor& targets_NK, const ModelWeights& weights,
                        const MicroBatch& batch, Routing& routing);

  // Without gradients, all datums: log-probabilities and the experts used; or with entropies and the most likely tokens.
  ForwardResult Score(absl::Span<const Datum> datums, const ModelWeights& weights,
                      int64_t token_budget);
  Description Describe(absl::Span<const Datum> datums, const ModelWeights& weights,
                       int64_t token_budget, int32_t top_k);

 private:
  const std::shared_ptr<const CausalLm> model_;
  const double temperature_;
  const bool replay_routes_;
  const RouteCodec codec_;
  std::unique_ptr<PackedAttention> attention_;  // of the last forward: a backward may use it
};

}  // namespace rft
