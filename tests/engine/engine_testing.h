// What the tests of the local engine share: ragged requests, an engine around a model, and log-probabilities computed anew.
#pragma once

#include <map>
#include <memory>
#include <vector>

#include "rft/engine/local_engine.h"

namespace rft::testing {

// An engine that must start; `pages` of 16 tokens (0: plenty).
std::unique_ptr<InferenceEngine> StartEngine(std::shared_ptr<CausalLm> model,
                                             EngineOptions options = {}, int64_t pages = 0,
                                             std::shared_ptr<const TextCodec> codec = nullptr);

GenerateRequest MakeRequest(std::vector<TokenId> prompt, int32_t max_tokens, uint64_t row = 0);

// `count` requests with prompts of 1 .. 60 tokens and 1 .. 24 new ones, sampled in different ways.
std::vector<GenerateRequest> RaggedRequests(int count, uint64_t seed);

// GenerateAll with a deadline that a test can wait for. An error fails the test.
std::vector<std::vector<Completion>> Generate(InferenceEngine& engine,
                                              std::vector<GenerateRequest> requests);

// Same ids and the same bits of both log-probabilities.
void ExpectSameCompletions(const std::vector<std::vector<Completion>>& a,
                           const std::vector<std::vector<Completion>>& b);

// Log-probability of each completion token, one token at a time over a paged cache of its own, each with the weights of the
// version that the completion names. What the engine must have computed, whatever else was in its batch.
std::vector<float> Replay(const CausalLm& model,
                          const std::map<int64_t, std::shared_ptr<const ModelWeights>>& versions,
                          const std::vector<TokenId>& prompt, const Completion& completion);

}  // namespace rft::testing
