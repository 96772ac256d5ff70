// The interface between whoever wants completions (orchestrator, server, evaluation, chat) and whoever makes them.
// Torch-free. Implementations: rft/engine/local_engine.h (ours); others register with RFT_REGISTER_ENGINE.
//
//   caller ── Submit(request, sink) ──▶ queue ─▶ [prefill once, fork n] ─▶ decode iterations ─▶ sink->OnTokens/OnFinished
//          ── Cancel(handle) ─────────▶ frees pages and slots before the next iteration
//          ── Publish(weights) ───────▶ visible between two iterations; every token records its version
//
// Threading: all methods may be called from any thread. A sink is called from the engine's own thread: it must be quick,
// must not block, and may call Submit and Cancel.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "rft/api/token_mask.h"
#include "rft/core/published_weights.h"
#include "rft/core/rng.h"
#include "rft/core/types.h"

namespace rft {

// How tokens are drawn. Order of application: repetition, presence and frequency penalty, logit_bias, allowed_ids and
// grammar, temperature, top_k, top_p, min_p; then one draw from what is left. Those before temperature change the logits
// only where they are used: without them nothing is copied or scanned.
struct SamplingParams {
  double temperature = 1.0;  // 0 = greedy; otherwise > 0
  int32_t top_k = 0;         // 0 = off
  double top_p =
      1.0;  // keep the smallest set of most likely tokens whose probability reaches top_p; 1 = off
  double min_p = 0.0;       // drop tokens less likely than min_p times the most likely one; 0 = off
  int32_t max_tokens = 64;  // new tokens per completion, >= 1
  int32_t min_tokens = 0;   // no stop before this many
  bool ignore_eos = false;
  std::vector<TokenId>
      stop_ids;  // in addition to the model's own end tokens; the stop token is kept in `ids`
  std::vector<std::string>
      stop_strings;  // matched on decoded bytes; the completion ends with the token that completes one
  // Logits of tokens that the prompt or the completion has are divided by it where positive, multiplied where negative
  // (1909.05858, section 4.1). > 0; 1 = off.
  double repetition_penalty = 1.0;
  double presence_penalty =
      0.0;  // subtracted from the logit of each token of the completion; -2 .. 2
  double frequency_penalty = 0.0;  // the same, times how often the completion has it; -2 .. 2
  std::vector<std::pair<TokenId, float>> logit_bias;  // added; -100 .. 100
  std::vector<TokenId> allowed_ids;                   // nothing else is drawn; empty = everything
  // Most likely tokens recorded with each token (Completion::top_logprobs), 0 .. 128.
  int32_t num_top_logprobs = 0;

  // Whether more than temperature, top_k, top_p and min_p is asked for.
  bool ChangesLogits() const {
    return repetition_penalty != 1.0 || presence_penalty != 0.0 || frequency_penalty != 0.0 ||
           !logit_bias.empty() || !allowed_ids.empty();
  }
};

// What a running request does when new weights are published.
enum class WeightPolicy : uint8_t {
  kContinue = 0,  // goes on with the new version; keys and values computed before stay
  kFinish =
      1,  // all its samples finish on the version it started with, which stays in memory until then
  kRecompute = 2,  // goes on with the new version, keys and values of all its tokens computed anew
};

inline constexpr std::pair<std::string_view, WeightPolicy> kWeightPolicies[] = {
    {"continue", WeightPolicy::kContinue},
    {"finish", WeightPolicy::kFinish},
    {"recompute", WeightPolicy::kRecompute}};
std::optional<WeightPolicy> ParseWeightPolicy(std::string_view name);
std::string_view WeightPolicyName(WeightPolicy policy);

// Which tokens' expert choices a completion of a mixture-of-experts model carries; dense models have none.
enum class RouteCapture { kNone, kCompletion, kPromptAndCompletion };

struct GenerateRequest {
  std::vector<TokenId> prompt;  // >= 1 token
  SamplingParams sampling;
  int32_t num_samples = 1;  // completions of this prompt; the prompt is prefilled once
  std::string adapter;      // published with PublishAdapter; "": what Publish published
  RouteCapture routes = RouteCapture::kNone;
  RngKey rng;  // sample i draws from the stream with rollout = rng.rollout + i
  // Log-probability of each prompt token (Completion::prompt_logprobs) and, of `num_prompt_top_logprobs`, alternatives.
  bool want_prompt_logprobs = false;
  int32_t num_prompt_top_logprobs = 0;          // 0 .. 128
  std::shared_ptr<const TokenGrammar> grammar;  // null = free text
  WeightPolicy weight_policy = WeightPolicy::kContinue;
  // Requests of different clients take turns when they wait (start-time fair queueing by tokens); those of one client run
  // in order of arrival.
  uint64_t client = 0;
  // Whether pages of earlier prompts and completions may be reused. The results are the same, bit for bit.
  bool use_prefix_cache = true;
  // They are shared among requests with the same salt only, so that nobody learns from the time of an answer what others
  // have asked.
  std::string cache_salt;
};

struct TokenLogprob {
  TokenId id = 0;
  float logprob = 0.0f;  // nats, temperature 1, whole vocabulary
};

// One finished completion. The vectors have equal length.
struct Completion {
  std::vector<TokenId> ids;
  std::vector<float> logprobs;           // nats, temperature 1, whole vocabulary
  std::vector<float> sampling_logprobs;  // nats, of the distribution really sampled from
  std::vector<int64_t> versions;         // weight version per token
  // Per token, most likely first; empty unless num_top_logprobs.
  std::vector<std::vector<TokenLogprob>> top_logprobs;
  // As long as the prompt, equal for all samples; entry 0 is NaN (nothing comes before it). Empty unless asked for.
  std::vector<float> prompt_logprobs;
  std::vector<std::vector<TokenLogprob>> prompt_top_logprobs;
  std::string stop_string;  // which one ended it; empty = none
  // As the request asked: packed routing of the position that predicted each token (core/routes.h), equal bytes per token.
  std::vector<uint8_t> routes;
  std::vector<uint8_t>
      prompt_routes;  // of the prompt's tokens; the first one's entry is 0, nothing predicted it
  FinishReason finish_reason = FinishReason::kStop;
  std::string error;  // set when finish_reason is kError
};

class CompletionSink {
 public:
  virtual ~CompletionSink() = default;
  // Tokens from `first` on are new in `so_far`, which has everything that is known of them and of the prompt, and is the
  // engine's. Default: ignored.
  virtual void OnTokens(int32_t /*sample*/, const Completion& /*so_far*/, size_t /*first*/) {}
  // Called exactly once per sample, also after Cancel (kCancelled) and on failure (kError).
  virtual void OnFinished(int32_t sample, Completion completion) = 0;
};

// What one iteration computed, and where its time went.
struct IterationCost {
  int64_t index = 0;           // EngineStats::iterations before it
  int64_t prefill_tokens = 0;  // of prompts, and of completions computed again
  int64_t decode_tokens = 0;   // one for each sequence that only goes on
  int64_t decode_keys = 0;     // that those attended to
  double busy_s = 0.0;         // of that, inside kernels: as EngineStats
  double matmul_s = 0.0, attention_s = 0.0, rowwise_s = 0.0, sampling_s = 0.0;
};

struct EngineStats {
  int64_t tokens_sampled = 0;    // since start
  int64_t tokens_prefilled = 0;  // prompt tokens actually computed
  int64_t iterations = 0;
  double busy_s = 0.0;  // wall time inside iterations
  // Of that, inside kernels: matrix products, attention, norms and the like, drawing tokens. The rest is overhead.
  double matmul_s = 0.0, attention_s = 0.0, rowwise_s = 0.0, sampling_s = 0.0;
  int64_t running = 0;     // sequences in the batch
  int64_t waiting = 0;     // requests not yet admitted
  int64_t page_bytes = 0;  // keys and values of 16 tokens, all layers
  int64_t pages_total = 0;
  int64_t pages_used = 0;    // by running sequences
  int64_t pages_cached = 0;  // kept for later prompts, until somebody needs the room
  int64_t preemptions = 0;
  int64_t prefix_hit_tokens =
      0;  // prompt tokens that did not have to be computed (forks not counted)
  int64_t prefix_evictions = 0;  // cached pages that were reused for something else
  int64_t weight_swaps = 0;      // versions that became visible
};

using RequestHandle = int64_t;

class InferenceEngine {
 public:
  virtual ~InferenceEngine() = default;

  // Queues the request. Errors (nothing is queued then): kInvalidArgument for an empty prompt, a prompt that leaves no
  // room in the context, ids outside the vocabulary or bad sampling parameters (the message names the field);
  // kResourceExhausted when the queue is full; kFailedPrecondition before the first Publish or after Shutdown.
  // `sink` is kept until all samples are finished.
  virtual absl::StatusOr<RequestHandle> Submit(GenerateRequest request,
                                               std::shared_ptr<CompletionSink> sink) = 0;

  // Ends all unfinished samples of the request. Unknown or finished handles are ignored.
  virtual void Cancel(RequestHandle handle) = 0;

  // Makes `weights` what the next iteration runs on. No copy. kInvalidArgument if this engine can't run them.
  virtual absl::Status Publish(std::shared_ptr<const PublishedWeights> weights) = 0;

  // As Publish, for requests that name this adapter: requests of different adapters share a batch. Null weights: the name is
  // free again; requests that use it go on with what they have. kUnimplemented where an engine has no adapters.
  virtual absl::Status PublishAdapter(const std::string& /*name*/,
                                      std::shared_ptr<const PublishedWeights> /*weights*/) {
    return absl::UnimplementedError("engine: serves no adapters");
  }

  // Forgets what is kept of earlier texts, before the next iteration. Changes memory and time, never a result. Default:
  // nothing is kept.
  virtual void ResetPrefixCache() {}

  virtual EngineStats stats() const = 0;
  // The latest iterations, oldest first. Default: none are known.
  virtual std::vector<IterationCost> RecentIterations() const { return {}; }

  // Longest prompt + completion, in tokens.
  virtual int64_t max_context() const = 0;

  // Cancels everything, stops the engine's thread. Idempotent; called by the destructor.
  virtual void Shutdown() = 0;
};

// Blocks until all requests are finished: result[i][s] is sample s of request i. Submits everything at once; waits with a
// deadline (seconds) and returns kDeadlineExceeded, after cancelling, when it passes.
absl::StatusOr<std::vector<std::vector<Completion>>> GenerateAll(
    InferenceEngine& engine, std::vector<GenerateRequest> requests, double deadline_s = 3600.0);

}  // namespace rft
