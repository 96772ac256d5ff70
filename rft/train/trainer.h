// The trainer: the Training API's verbs over a CausalLm (see rft/api/training_client.h for semantics and errors).
//
// A call's datums are packed, ragged, into micro-batches of at most `token_budget` computed tokens; datums that share a
// prefix are kept together and the prefix is computed once. Only positions with a non-zero weight reach the vocabulary.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "rft/api/training_client.h"
#include "rft/core/distillation_config.h"
#include "rft/core/memory_plan.h"
#include "rft/core/preference_config.h"
#include "rft/models/causal_lm.h"
#include "rft/models/lora.h"
#include "rft/train/optimizer.h"

namespace rft {

struct TrainerOptions {
  int64_t token_budget = 8192;  // computed tokens per micro-batch; a single datum may exceed it
  // Activation checkpointing of every n-th dense layer: less memory for one more forward of it, the same bits; 0: off.
  int64_t checkpoint_every = 0;
  // Whether Datum::routes are used: a reference model keeps its own routing.
  bool replay_routes = true;
  // Coefficients of the router's auxiliary losses (rft/models/routing.h), per unit of the loss's denominator; 0 = off.
  double router_load_balance_coef = 0.0, router_z_coef = 0.0;
  double temperature = 1.0;  // log-probabilities are of softmax(logits / temperature)
  // Train this adapter of the model instead of the model itself: gradients, optimizer state, checkpoints and published
  // weights are the adapter's. Several trainers may share one base, each with an adapter of its own.
  std::shared_ptr<LoraAdapter> adapter;
  OptimizerOptions optimizer;
  // Makes the engine that Sample uses, at its first call: LocalSampler() of rft/engine/local_engine.h. Empty: there is no Sample.
  std::function<absl::StatusOr<std::unique_ptr<InferenceEngine>>(std::shared_ptr<CausalLm>)>
      sampler;
  // Score with this version of the model and nothing else (a KL reference): it stays as it is while the model is trained, and
  // shares every tensor with it until then. Forward and Describe work; what would train is kFailedPrecondition.
  std::shared_ptr<const ModelWeights> frozen;
};

// What Describe adds to ForwardResult, aligned as its logprobs.
struct Description {
  std::vector<std::vector<float>> logprobs;
  std::vector<std::vector<float>> entropies;  // nats; 0 where weights are 0
  int32_t top_k = 0;
  // The top_k most likely tokens at each position, best first (ties: the lower id), L * top_k; -1 and 0 where weights are 0.
  std::vector<std::vector<TokenId>> top_ids;
  std::vector<std::vector<float>> top_logprobs;
};

class Trainer : public TrainingClient {
 public:
  static absl::StatusOr<std::unique_ptr<Trainer>> Create(std::shared_ptr<CausalLm> model,
                                                         const TrainerOptions& options);
  ~Trainer() override = default;

  // As Forward, with the entropy and the most likely tokens of every position.
  virtual absl::StatusOr<Description> Describe(absl::Span<const Datum> datums, int32_t top_k) = 0;
  // A preference loss (losses/preference_loss.h) over whole completions: the tokens of a datum with weight 1. Paired losses:
  // datums 2 i and 2 i + 1 are the chosen and the rejected completion of one prompt. Unpaired ones: a datum with a positive
  // advantage is desirable. Losses with a reference need ref_logprobs. `gradient` false: the loss and its metrics only.
  virtual absl::StatusOr<ForwardBackwardResult> ForwardBackwardPreference(
      absl::Span<const Datum> datums, const PreferenceConfig& loss, bool gradient) = 0;

  // Distillation: for every token with a weight, the divergence from `teacher` (what its Describe says of the same datums)
  // on the teacher's top_k tokens (losses/distillation.h), times the weight; the denominator is the sum of weights. Several
  // teachers: a call each. metrics: "divergence". `logprobs` of the result stay empty.
  virtual absl::StatusOr<ForwardBackwardResult> ForwardBackwardDistillation(
      absl::Span<const Datum> datums, const Description& teacher,
      const DistillationConfig& config) = 0;
  // Moves what is trained here towards what `other` trains, own = decay * own + (1 - decay) * other's, and makes a version of
  // it: an exponential moving average (the reference of a KL term). kInvalidArgument if their parameters differ.
  virtual absl::Status Follow(const Trainer& other, double decay) = 0;
  // SaveState of a part of every parameter and moment, of `count` parts in as many calls (or processes); LoadState reads what all of
  // them left. Names and ranges: rft/train/trainer_state.h.
  virtual absl::Status SaveStateShard(const std::string& dir, int64_t index, int64_t count) = 0;
  // What another sampler puts on the base that it has: the adapter, or of a whole model what has changed
  // (rft/models/delta_folder.h).
  virtual absl::Status SaveDelta(const std::string& dir) = 0;
  // What SaveModel wrote into `dir` against what is trained: rft/train/export_check.h.
  virtual absl::StatusOr<std::optional<double>> CheckExport(const std::string& dir,
                                                            absl::Span<const Datum> datums) = 0;
  // What the steps to come will use memory for; makes the micro-batches as large as `limit_bytes` allows, at most
  // options.token_budget. See rft/train/memory_planner.h for the limit and errors.
  virtual absl::StatusOr<MemoryPlan> PlanMemory(const MemoryWorkload& workload,
                                                int64_t limit_bytes) = 0;

  // The model whose versions SaveWeightsForSampler gives, for an engine: model(), or, where that is on another device, its copy on
  // the CPU. The copy's log-probabilities differ from the trainer's by rounding.
  virtual absl::StatusOr<std::shared_ptr<CausalLm>> SamplerModel() = 0;

  virtual std::shared_ptr<CausalLm> model() const = 0;
  virtual std::shared_ptr<LoraAdapter> adapter() const = 0;  // null: the model itself is trained
  virtual ParameterStore& parameters() const = 0;            // what is trained
  virtual int64_t num_steps() const = 0;  // optimizer steps taken, restored by LoadState
};

}  // namespace rft
