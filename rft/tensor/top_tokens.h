// The most likely tokens of rows of hidden states. Implementation: token_logprobs.cc.
#pragma once

#include <ATen/core/Tensor.h>

#include "rft/tensor/weight.h"

namespace rft::ops {

// The k most likely tokens of each row under softmax(hidden W^T / temperature), best first (ties: the lower id): ids int64
// [N, k], their log-probabilities float32 [N, k], and the entropies in nats [N]. No gradient; never holds [N, V].
struct TopTokens {
  at::Tensor ids_NK, logprobs_NK, entropy_N;
};
TopTokens TopLogprobs(const at::Tensor& hidden_NH, const Weight& head, int64_t k,
                      double temperature, HeadAdapter adapter = {});

}  // namespace rft::ops
