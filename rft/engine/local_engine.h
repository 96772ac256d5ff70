// The engine in this process: continuous batching over a paged state cache, on the model object the trainer trains.
//
//   Submit ─▶ waiting ─(admit: pages + slot)─▶ prefill in chunks ─▶ fork n samples ─▶ decode, one token an iteration ─▶ sink
//                ▲                                                        │
//                └───────────── preempted when pages run out (recompute) ◀┘
//
// Weights published meanwhile are used from the next iteration on, or as the request's WeightPolicy says: an iteration makes
// one forward for each version in use.
// A rollout's tokens depend on its own RngKey, prompt and weights only, never on what else is in the batch.
#pragma once

#include <memory>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "rft/api/inference_engine.h"
#include "rft/api/text_codec.h"
#include "rft/models/causal_lm.h"

namespace rft {

struct EngineOptions {
  int64_t max_batch = 64;               // sequences that decode at once
  int64_t max_batch_tokens = 1024;      // tokens per iteration: decode tokens plus prefill chunks
  int64_t kv_memory_bytes = 1LL << 30;  // for the pages of the state cache
  int64_t queue_limit = 65536;          // samples waiting; more are refused
  bool prefix_cache = true;             // keep pages of earlier texts while there is room
  bool check_invariants = false;  // of the scheduler, every iteration; aborts when one is broken
  // Of the engine "http" (remote_engine.cc).
  std::string server_url;              // "http://127.0.0.1:8000"
  std::string server_dialect = "rft";  // or vllm, sglang, llama.cpp
  std::string server_model;            // empty: the first one it lists
  std::string server_key_variable;     // environment variable that holds the API key; empty: none
  std::string weights_dir;             // where weights are handed over; empty: they are not
};

// `codec` is needed for stop strings only; may be null. The engine publishes model->weights() itself.
absl::StatusOr<std::unique_ptr<InferenceEngine>> CreateLocalEngine(
    std::shared_ptr<CausalLm> model, const EngineOptions& options,
    std::shared_ptr<const TextCodec> codec);

// For TrainerOptions::sampler: Trainer::Sample asks such an engine.
inline auto LocalSampler(EngineOptions options = {},
                         std::shared_ptr<const TextCodec> codec = nullptr) {
  return [options = std::move(options), codec = std::move(codec)](std::shared_ptr<CausalLm> model) {
    return CreateLocalEngine(std::move(model), options, codec);
  };
}

// Engines by the name that run.yaml's `engine.name` gives.
using EngineRegistry =
    Registry<absl::StatusOr<std::unique_ptr<InferenceEngine>>, std::shared_ptr<CausalLm>,
             const EngineOptions&, std::shared_ptr<const TextCodec>>;
#define RFT_REGISTER_ENGINE(name, factory)            \
  static const bool rft_registered_engine_##factory = \
      ::rft::EngineRegistry::Get().Add(name, factory)

}  // namespace rft
