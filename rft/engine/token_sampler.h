// Draws one token from one row of logits. Torch-free; a pure function, so rows may be sampled in parallel.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "rft/api/inference_engine.h"

namespace rft {

inline constexpr int32_t kMaxTopLogprobs = 128;  // alternatives recorded per token

struct SampledToken {
  TokenId id = 0;
  float logprob = 0.0f;           // nats, temperature 1, whole vocabulary
  float sampling_logprob = 0.0f;  // nats, of the distribution drawn from; 0 for greedy
};

// `logits`: vocab_size values. `forbidden` ids can't be drawn (stop tokens before min_tokens).
// `uniform` in [0, 1) decides the draw. Ties: the lower id first.
SampledToken SampleToken(const float* logits, int64_t vocab_size, const SamplingParams& params,
                         const std::vector<TokenId>& forbidden, double uniform);

// kInvalidArgument naming the field and its range.
absl::Status ValidateSamplingParams(const SamplingParams& params, int64_t vocab_size);

}  // namespace rft
