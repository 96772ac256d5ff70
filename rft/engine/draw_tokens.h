// One token for each of many sequences, over all cores. Torch-free; a sequence's token depends on its own logits, request and
// random stream only.
#pragma once

#include <cstdint>
#include <vector>

#include "rft/engine/sequence.h"
#include "rft/engine/token_sampler.h"

namespace rft {

struct Draw {
  EngineSequence* sequence;
  int64_t row;                    // of the logits; samples of one prompt share one
  std::vector<uint32_t> allowed;  // TokenBits; empty = everything
  // Filled in:
  SampledToken token{};
  std::vector<TokenLogprob> top{};  // if the request wants alternatives
};

// `logits`: rows of vocab_size values, not changed.
void DrawTokens(std::vector<Draw>& draws, const float* logits, int64_t vocab_size);

}  // namespace rft
