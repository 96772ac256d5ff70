// The trainer: the Training API's verbs over a CausalLm (see rft/api/training_client.h for semantics and errors).
//
// A call's datums are packed, ragged, into micro-batches of at most `token_budget` computed tokens; datums that share a
// prefix are kept together and the prefix is computed once. Only positions with a non-zero weight reach the vocabulary.
#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "rft/api/training_client.h"
#include "rft/models/causal_lm.h"
#include "rft/models/lora.h"

namespace rft {

struct TrainerOptions {
  int64_t token_budget = 8192;  // computed tokens per micro-batch; a single datum may exceed it
  double temperature = 1.0;     // log-probabilities are of softmax(logits / temperature)
  // Train this adapter of the model instead of the model itself: gradients, optimizer state, checkpoints and published
  // weights are the adapter's. Several trainers may share one base, each with an adapter of its own.
  std::shared_ptr<LoraAdapter> adapter;
};

class Trainer : public TrainingClient {
 public:
  static absl::StatusOr<std::unique_ptr<Trainer>> Create(std::shared_ptr<CausalLm> model,
                                                         const TrainerOptions& options);
  ~Trainer() override = default;
  virtual std::shared_ptr<CausalLm> model() const = 0;
  virtual std::shared_ptr<LoraAdapter> adapter() const = 0;  // null: the model itself is trained
  virtual ParameterStore& parameters() const = 0;            // what is trained
  virtual int64_t num_steps() const = 0;  // optimizer steps taken, restored by LoadState
};

}  // namespace rft
