#include "rft/engine/token_sampler.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "rft/tensor/kernels.h"

namespace rft {
namespace {

// The most likely ids that top_k, top_p and min_p leave, most likely first; `probs` are unnormalised.
std::vector<int32_t> Candidates(const std::vector<float>& probs, double total,
                                const SamplingParams& params) {
  const auto vocab = static_cast<int64_t>(probs.size());
  const int64_t limit = params.top_k > 0 ? std::min<int64_t>(params.top_k, vocab) : vocab;
  std::vector<int32_t> ids(vocab);
  for (int64_t i = 0; i < vocab; ++i) ids[i] = static_cast<int32_t>(i);
  auto likelier = [&](int32_t a, int32_t b) {
    return probs[a] != probs[b] ? probs[a] > probs[b] : a < b;
  };
  // Sorts only as many as turn out to be needed.
  int64_t sorted = 0, kept = 0;
  double mass = 0.0, top_mass = total;
  if (params.top_k > 0) {
    std::nth_element(ids.begin(), ids.begin() + (limit - 1), ids.end(), likelier);
    top_mass = 0.0;
    for (int64_t i = 0; i < limit; ++i) top_mass += probs[ids[i]];
  }
  while (kept < limit) {
    if (kept == sorted) {
      const int64_t next = std::min(limit, std::max<int64_t>(256, sorted * 8));
      std::partial_sort(ids.begin() + sorted, ids.begin() + next,
                        ids.begin() + (params.top_k > 0 ? limit : vocab), likelier);
      sorted = next;
    }
    const float p = probs[ids[kept]];
    if (kept > 0 && (p < params.min_p * probs[ids[0]] || p == 0.0f)) break;
    mass += p;
    ++kept;
    if (mass >= params.top_p * top_mass) break;
  }
  ids.resize(kept);
  return ids;
}

int64_t Draw(const std::vector<float>& probs, double uniform) {
  constexpr int64_t kBlock = 1024;
  const auto n = static_cast<int64_t>(probs.size());
  thread_local std::vector<double> sums;
  sums.clear();
  double total = 0.0;
  for (int64_t b = 0; b < n; b += kBlock) {
    // Eight running sums: one chain of additions would wait for itself.
    double lanes[8] = {};
    const int64_t end = std::min(n, b + kBlock), whole = b + (end - b) / 8 * 8;
    for (int64_t i = b; i < whole; i += 8)
      for (int j = 0; j < 8; ++j) lanes[j] += probs[i + j];
    for (int64_t i = whole; i < end; ++i) lanes[0] += probs[i];
    const double sum = ((lanes[0] + lanes[1]) + (lanes[2] + lanes[3])) +
                       ((lanes[4] + lanes[5]) + (lanes[6] + lanes[7]));
    sums.push_back(sum);
    total += sum;
  }
  double rest = uniform * total;
  for (size_t b = 0; b < sums.size(); ++b) {
    if (rest >= sums[b] && b + 1 < sums.size()) {
      rest -= sums[b];
      continue;
    }
    for (int64_t i = static_cast<int64_t>(b) * kBlock; i < std::min<int64_t>(n, (b + 1) * kBlock);
         ++i) {
      if (probs[i] <= 0.0f) continue;
      if (rest < probs[i]) return i;
      rest -= probs[i];
    }
  }
  // Rounding must not fall off the end: the last id with a positive probability.
  int64_t last = n - 1;
  while (last > 0 && probs[last] <= 0.0f) --last;
  return last;
}

}  // namespace

SampledToken SampleToken(const float* logits, int64_t vocab_size, const SamplingParams& params,
                         const std::vector<TokenId>& forbidden, double uniform) {
  const Kernels& kernels = GetKernels();
  const bool greedy = params.temperature == 0.0;
  const float scale = greedy ? 1.0f : static_cast<float>(1.0 / params.temperature);
  thread_local std::vector<float> probs, allowed;
  probs.resize(vocab_size);
  RowStats stats;  // of the distribution that is drawn from
  float log_sum_exp;
  if (scale == 1.0f && forbidden.empty() && !greedy) {
    stats = kernels.row_exp_stats(logits, vocab_size, scale, probs.data());
    log_sum_exp = stats.log_sum_exp;
  } else {
    log_sum_exp = kernels.row_stats(logits, vocab_size, 1.0f, nullptr).log_sum_exp;
    if (!forbidden.empty()) {
      allowed.assign(logits, logits + vocab_size);
      for (TokenId id : forbidden) allowed[id] = -INFINITY;
      logits = allowed.data();
    }
    if (!greedy) stats = kernels.row_exp_stats(logits, vocab_size, scale, probs.data());
  }
  SampledToken token;
  if (greedy) {
    token.id = static_cast<TokenId>(std::max_element(logits, logits + vocab_size) - logits);
    token.logprob = logits[token.id] - log_sum_exp;
    return token;
  }
  const bool filtered = params.top_k > 0 || params.top_p < 1.0 || params.min_p > 0.0;
  if (!filtered) {
    token.id = static_cast<TokenId>(Draw(probs, uniform));
    token.sampling_logprob = logits[token.id] * scale - stats.log_sum_exp;
  } else {
    const std::vector<int32_t> ids = Candidates(probs, stats.sum, params);
    double mass = 0.0;
    for (int32_t id : ids) mass += probs[id];
    double rest = uniform * mass;
    token.id = ids.back();
    for (int32_t id : ids) {
      if (rest < probs[id]) {
        token.id = id;
        break;
      }
      rest -= probs[id];
    }
    token.sampling_logprob = static_cast<float>(std::log(probs[token.id] / mass));
  }
  token.logprob = logits[token.id] - log_sum_exp;
  return token;
}

absl::Status ValidateSamplingParams(const SamplingParams& p, int64_t vocab_size) {
  auto bad = [](std::string_view field, std::string_view range) {
    return absl::InvalidArgumentError(
        absl::StrCat("sampling.", std::string(field), ": must be ", std::string(range)));
  };
  if (!(p.temperature >= 0.0 && p.temperature <= 100.0)) return bad("temperature", "in 0 .. 100");
  if (p.temperature > 0.0 && p.temperature < 1e-3)
    return bad("temperature", "0 (greedy) or at least 0.001");
  if (p.top_k < 0) return bad("top_k", "0 (off) or positive");
  if (!(p.top_p > 0.0 && p.top_p <= 1.0)) return bad("top_p", "in (0, 1]");
  if (!(p.min_p >= 0.0 && p.min_p <= 1.0)) return bad("min_p", "in 0 .. 1");
  if (p.max_tokens < 1) return bad("max_tokens", "at least 1");
  if (p.min_tokens < 0 || p.min_tokens > p.max_tokens)
    return bad("min_tokens", "in 0 .. max_tokens");
  for (TokenId id : p.stop_ids)
    if (id < 0 || id >= vocab_size) return bad("stop_ids", "within the vocabulary");
  if (p.stop_ids.size() > 1024) return bad("stop_ids", "at most 1024 ids");
  if (p.stop_strings.size() > 64) return bad("stop_strings", "at most 64 strings");
  for (const std::string& s : p.stop_strings)
    if (s.empty() || s.size() > 1024) return bad("stop_strings", "1 .. 1024 bytes each");
  if (!(p.repetition_penalty > 0.0 && p.repetition_penalty <= 100.0))
    return bad("repetition_penalty", "in (0, 100]");
  if (!(std::abs(p.presence_penalty) <= 2.0)) return bad("presence_penalty", "in -2 .. 2");
  if (!(std::abs(p.frequency_penalty) <= 2.0)) return bad("frequency_penalty", "in -2 .. 2");
  if (p.num_top_logprobs < 0 || p.num_top_logprobs > kMaxTopLogprobs)
    return bad("num_top_logprobs", absl::StrCat("in 0 .. ", kMaxTopLogprobs));
  for (const auto& [id, bias] : p.logit_bias) {
    if (id < 0 || id >= vocab_size) return bad("logit_bias", "of ids within the vocabulary");
    if (!(std::abs(bias) <= 100.0f)) return bad("logit_bias", "in -100 .. 100");
  }
  for (TokenId id : p.allowed_ids)
    if (id < 0 || id >= vocab_size) return bad("allowed_ids", "within the vocabulary");
  return absl::OkStatus();
}

}  // namespace rft
