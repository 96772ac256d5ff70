// Draws with everything that a request may ask beyond temperature, top-k, top-p and min-p (token_sampler.h): penalties, bias,
// allowed tokens, a grammar's mask. Kept apart so that plain sampling pays nothing for it. Torch-free; pure functions.
#pragma once

#include <cstdint>
#include <vector>

#include "rft/engine/token_sampler.h"

namespace rft {

// What a draw depends on beside its logits.
struct DrawContext {
  const SamplingParams& params;
  const std::vector<TokenId>& tokens;  // prompt, then completion so far
  int64_t prompt_size = 0;
  const std::vector<TokenId>& forbidden;  // ignored where nothing else is allowed
  const uint32_t* allowed =
      nullptr;  // TokenBits of what may be drawn, at least one; null = everything
};

// As SampleToken, but from logits that were changed first; `logits` itself is not. `logprob` is that of the unchanged ones,
// bit for bit what SampleToken gives for the same id.
SampledToken SampleGuided(const float* logits, int64_t vocab_size, const DrawContext& context,
                          double uniform);

// The `count` most likely tokens (nats, temperature 1, whole vocabulary), most likely first; ties: the lower id.
std::vector<TokenLogprob> TopLogprobs(const float* logits, int64_t vocab_size, int32_t count);

// log softmax(logits)[id], bit for bit SampledToken::logprob.
float TokenLogprobOf(const float* logits, int64_t vocab_size, TokenId id);

}  // namespace rft
