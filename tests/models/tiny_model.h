// Small models with random weights for the tests of models, engine, trainer and their parity.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "rft/models/causal_lm.h"

namespace rft::testing {

enum class Family { kLlama, kQwen3, kQwen3Moe };
std::string FamilyName(Family family);  // its model_type

// Vocabulary 258 (FakeCodec's), 257 ends a completion, context 256. Head dim 24: not a multiple of the kernels' 16 lanes.
std::string TinyConfig(Family family);

// Weights of standard deviation 0.2 (logits differ by a few nats), norms near 1. Equal seeds give equal weights.
std::shared_ptr<CausalLm> MakeTinyModel(Family family, at::ScalarType dtype, uint64_t seed = 1);

// Reproducible ids in [0, 256).
std::vector<TokenId> RandomIds(int64_t count, uint64_t seed);

// Reproducible uniform values in [low, high).
double RandomIn(double low, double high, uint64_t seed, uint64_t index);
int64_t RandomInt(int64_t low, int64_t high, uint64_t seed, uint64_t index);  // both ends included

// Final hidden states [T, H] of one sequence, without gradient.
at::Tensor HiddenStates(const CausalLm& model, const ModelWeights& weights,
                        const std::vector<TokenId>& ids);

}  // namespace rft::testing
