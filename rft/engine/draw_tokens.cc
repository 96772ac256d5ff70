#include "rft/engine/draw_tokens.h"

#include "rft/core/rng.h"
#include "rft/engine/guided_sampler.h"
#include "rft/tensor/cost_timer.h"
#include "rft/tensor/parallel.h"

namespace rft {
namespace {

void DrawOne(Draw& d, const float* logits, int64_t vocab) {
  const EngineRequest& owner = *d.sequence->owner;
  const GenerateRequest& request = owner.request;
  const auto position = static_cast<int64_t>(d.sequence->completion.ids.size());
  RngKey key = request.rng;
  key.rollout += static_cast<uint32_t>(d.sequence->sample);
  const double uniform = UniformAt(key, static_cast<uint32_t>(position));
  static const std::vector<TokenId> kNone;
  const std::vector<TokenId>& forbidden =
      position < request.sampling.min_tokens ? owner.end_ids : kNone;
  if (request.sampling.num_top_logprobs > 0)
    d.top = TopLogprobs(logits, vocab, request.sampling.num_top_logprobs);
  if (request.grammar || request.sampling.ChangesLogits()) {
    const DrawContext context{request.sampling, d.sequence->tokens,
                              static_cast<int64_t>(request.prompt.size()), forbidden,
                              d.allowed.empty() ? nullptr : d.allowed.data()};
    d.token = SampleGuided(logits, vocab, context, uniform);
    return;
  }
  d.token = SampleToken(logits, vocab, request.sampling, forbidden, uniform);
}

}  // namespace

void DrawTokens(std::vector<Draw>& draws, const float* logits, int64_t vocab_size) {
  const CostTimer timer(Cost::kSampling);
  ParallelFor(static_cast<int64_t>(draws.size()), GrainFor(4 * vocab_size),
              [&](int64_t begin, int64_t end) {
                for (int64_t i = begin; i < end; ++i)
                  DrawOne(draws[i], logits + draws[i].row * vocab_size, vocab_size);
              });
}

}  // namespace rft
