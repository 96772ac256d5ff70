// The model's part of an iteration: one forward over the pieces of work that share a base's weights, then logits where they are
// wanted. Used by the engine's thread alone.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include <ATen/core/Tensor.h>

#include "absl/types/span.h"
#include "rft/engine/paged_cache.h"
#include "rft/engine/route_recorder.h"
#include "rft/engine/scheduler.h"
#include "rft/models/causal_lm.h"

namespace rft {

class ForwardPass {
 public:
  // Computes `work`: keys, values and routes go into the cache; log-probabilities of prompts, where asked for, into their
  // requests. Throws what torch throws. `logits`: memory that one pass leaves to the next. All must outlive it.
  ForwardPass(const CausalLm& model, PagedCache& cache, RouteRecorder& routes,
              const std::vector<Scheduler::Work>& work, at::Tensor& logits);

  // The sequences that want logits, in the order of the work.
  const std::vector<EngineSequence*>& wanted() const { return wanted_; }
  // As many of them as fit the logits' memory at once.
  int64_t max_rows() const;
  // Logits [rows, vocab] of wanted()[begin .. begin + rows), rows <= max_rows(). Overwritten by the next call.
  const float* Logits(int64_t begin, int64_t rows);

 private:
  // Of hidden states that are rows `rows_N` of the batch, into logits_.
  void ComputeLogits(const at::Tensor& hidden_NH, absl::Span<const int64_t> rows_N);
  // Log-probabilities of the prompt tokens that rows [first, first + w.count) of `hidden` predict.
  void ScorePrompt(const Scheduler::Work& w, const at::Tensor& hidden_TH, int64_t first);

  const CausalLm& model_;
  const std::shared_ptr<const ModelWeights> weights_;
  std::vector<EngineSequence*> wanted_;
  std::vector<int64_t> wanted_rows_;  // of the batch
  at::Tensor wanted_NH_;
  at::Tensor& logits_;
};

}  // namespace rft
