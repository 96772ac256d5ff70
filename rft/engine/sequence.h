// One sample in flight, and the request it belongs to. Torch-free; the engine's thread owns both.
#pragma once

#include <cstdint>
#include <list>
#include <memory>
#include <vector>

#include "rft/api/inference_engine.h"
#include "rft/engine/page_pool.h"
#include "rft/engine/stop_matcher.h"

namespace rft {

struct EngineRequest {
  RequestHandle handle = 0;
  GenerateRequest request;
  std::shared_ptr<CompletionSink> sink;
  std::vector<TokenId> end_ids;        // model's end tokens (unless ignore_eos) and stop_ids
  std::vector<uint32_t> allowed_bits;  // of sampling.allowed_ids; empty = everything
  std::vector<uint8_t> prompt_routes;  // if wanted: set when the prompt is cached
  // What it computes with in this iteration: its adapter's, or the engine's.
  std::shared_ptr<const PublishedWeights> weights;
  // Scheduler's number of `weights` where they are not simply the current ones: an adapter's, or those that
  // WeightPolicy::kFinish holds on to since its first token was computed. 0 = the current ones.
  int64_t weights_id = 0;
  bool cancelled = false;
  // Filled as the prompt is computed; entry t belongs to prompt[t].
  std::vector<float> prompt_logprobs;
  std::vector<std::vector<TokenLogprob>> prompt_top_logprobs;
};

// A sequence's tokens are prompt + completion. Keys and values of the first `num_cached` of them are in its pages.
// A request starts as one sequence with sample = kPrompt; when its prompt is cached it is forked into the samples.
struct EngineSequence {
  static constexpr int32_t kPrompt = -1;
  std::shared_ptr<EngineRequest> owner;
  int32_t sample = kPrompt;
  std::vector<TokenId> tokens;
  int64_t num_cached = 0;
  std::vector<PageId> pages;
  // The first `num_pure` cached tokens were all computed with version `kv_version`; later ones with newer weights.
  int64_t num_pure = 0, kv_version = -1;
  double start_tag = 0.0;           // place in the queue (Scheduler::Add)
  std::unique_ptr<TokenMask> mask;  // of a structured completion, from its first draw on
  Completion completion;
  StopMatcher stops;

  EngineSequence(std::shared_ptr<EngineRequest> request, int32_t sample_index)
      : owner(std::move(request)),
        sample(sample_index),
        tokens(owner->request.prompt),
        stops(&owner->request.sampling.stop_strings) {}
  int64_t size() const { return static_cast<int64_t>(tokens.size()); }
  bool needs_prefill() const { return num_cached + 1 < size() || sample == kPrompt; }
};

using SequenceList = std::list<std::unique_ptr<EngineSequence>>;

}  // namespace rft
