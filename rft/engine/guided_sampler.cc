#include "rft/engine/guided_sampler.h"

#include <algorithm>
#include <cmath>

#include "rft/tensor/kernels.h"

namespace rft {
namespace {

bool Has(const uint32_t* bits, TokenId id) { return (bits[id / 32] >> (id % 32)) & 1u; }

void Penalize(const DrawContext& c, int64_t vocab_size, float* logits) {
  const SamplingParams& p = c.params;
  const auto size = static_cast<int64_t>(c.tokens.size());
  if (p.repetition_penalty != 1.0) {
    thread_local std::vector<bool> seen;
    seen.assign(vocab_size, false);
    const auto penalty = static_cast<float>(p.repetition_penalty);
    for (TokenId id : c.tokens) {
      if (seen[id]) continue;
      seen[id] = true;
      logits[id] = logits[id] > 0.0f ? logits[id] / penalty : logits[id] * penalty;
    }
  }
  if (p.presence_penalty == 0.0 && p.frequency_penalty == 0.0) return;
  thread_local std::vector<int32_t> counts;
  counts.assign(vocab_size, 0);
  for (int64_t t = c.prompt_size; t < size; ++t) ++counts[c.tokens[t]];
  for (int64_t t = c.prompt_size; t < size; ++t) {
    int32_t& count = counts[c.tokens[t]];
    if (count == 0) continue;
    logits[c.tokens[t]] -=
        static_cast<float>(p.presence_penalty) + static_cast<float>(p.frequency_penalty) * count;
    count = 0;
  }
}

// Whether anything is left when `forbidden` is taken from `allowed`.
bool LeavesSome(const DrawContext& c, int64_t vocab_size) {
  for (TokenId id = 0; id < vocab_size; ++id)
    if (Has(c.allowed, id) &&
        std::find(c.forbidden.begin(), c.forbidden.end(), id) == c.forbidden.end())
      return true;
  return false;
}

}  // namespace

SampledToken SampleGuided(const float* logits, int64_t vocab_size, const DrawContext& c,
                          double uniform) {
  thread_local std::vector<float> changed;
  changed.assign(logits, logits + vocab_size);
  Penalize(c, vocab_size, changed.data());
  for (const auto& [id, bias] : c.params.logit_bias) changed[id] += bias;
  if (c.allowed != nullptr)
    for (TokenId id = 0; id < vocab_size; ++id)
      if (!Has(c.allowed, id)) changed[id] = -INFINITY;
  static const std::vector<TokenId> kNone;
  const bool forbid = c.forbidden.empty() || c.allowed == nullptr || LeavesSome(c, vocab_size);
  SampledToken token =
      SampleToken(changed.data(), vocab_size, c.params, forbid ? c.forbidden : kNone, uniform);
  token.logprob = TokenLogprobOf(logits, vocab_size, token.id);
  return token;
}

std::vector<TokenLogprob> TopLogprobs(const float* logits, int64_t vocab_size, int32_t count) {
  const auto n = static_cast<size_t>(std::min<int64_t>(count, vocab_size));
  std::vector<TokenLogprob> top;
  if (n == 0) return top;
  auto likelier = [](const TokenLogprob& a, const TokenLogprob& b) {
    return a.logprob != b.logprob ? a.logprob > b.logprob : a.id < b.id;
  };
  // A heap of the best so far, the least likely of them in front: most tokens fail the first comparison.
  for (TokenId id = 0; id < vocab_size; ++id) {
    const TokenLogprob candidate{id, logits[id]};
    if (top.size() == n) {
      if (!likelier(candidate, top.front())) continue;
      std::pop_heap(top.begin(), top.end(), likelier);
      top.pop_back();
    }
    top.push_back(candidate);
    std::push_heap(top.begin(), top.end(), likelier);
  }
  std::sort_heap(top.begin(), top.end(), likelier);
  const float log_sum_exp = GetKernels().row_stats(logits, vocab_size, 1.0f, nullptr).log_sum_exp;
  for (TokenLogprob& t : top) t.logprob -= log_sum_exp;
  return top;
}

float TokenLogprobOf(const float* logits, int64_t vocab_size, TokenId id) {
  return logits[id] - GetKernels().row_stats(logits, vocab_size, 1.0f, nullptr).log_sum_exp;
}

}  // namespace rft
