#include "rft/engine/engine_request.h"

#include <cmath>

#include "absl/strings/str_cat.h"
#include "rft/core/status_macros.h"
#include "rft/engine/token_sampler.h"

namespace rft {
namespace {

absl::Status Validate(const GenerateRequest& r, const ModelConfig& c, const RequestLimits& limits) {
  RFT_RETURN_IF_ERROR(ValidateSamplingParams(r.sampling, c.vocab_size));
  if (r.prompt.empty())
    return absl::InvalidArgumentError("prompt: is empty; at least one token is needed");
  if (r.num_samples < 1 || r.num_samples > 4096)
    return absl::InvalidArgumentError("num_samples: must be in 1 .. 4096");
  for (TokenId id : r.prompt)
    if (id < 0 || id >= c.vocab_size)
      return absl::InvalidArgumentError(
          absl::StrCat("prompt: token ", id, " is outside the vocabulary of ", c.vocab_size));
  const int64_t total = static_cast<int64_t>(r.prompt.size()) + r.sampling.max_tokens;
  if (total > c.max_positions)
    return absl::InvalidArgumentError(absl::StrCat("prompt: ", r.prompt.size(),
                                                   " tokens and max_tokens ", r.sampling.max_tokens,
                                                   " exceed the context of ", c.max_positions));
  const int64_t pages = (total + limits.page_tokens - 1) / limits.page_tokens;
  if (pages + 1 > limits.num_pages)
    return absl::InvalidArgumentError(
        absl::StrCat("prompt: ", total, " tokens need more than the state cache's ",
                     limits.num_pages, " pages of ", limits.page_tokens, " (engine.kv_memory_mb)"));
  if (!r.sampling.stop_strings.empty() && !limits.has_codec)
    return absl::InvalidArgumentError("stop_strings: this engine has no tokenizer; use stop_ids");
  if (r.num_prompt_top_logprobs < 0 || r.num_prompt_top_logprobs > kMaxTopLogprobs)
    return absl::InvalidArgumentError(
        absl::StrCat("num_prompt_top_logprobs: must be in 0 .. ", kMaxTopLogprobs));
  if (!r.adapter.empty() && r.weight_policy != WeightPolicy::kContinue)
    return absl::InvalidArgumentError(
        "weight_policy: a request with an adapter goes on with the adapter's newest version");
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::shared_ptr<EngineRequest>> MakeEngineRequest(GenerateRequest request,
                                                                 const ModelConfig& model,
                                                                 const RequestLimits& limits) {
  RFT_RETURN_IF_ERROR(Validate(request, model, limits));
  auto owner = std::make_shared<EngineRequest>();
  if (!request.sampling.ignore_eos) owner->end_ids = model.end_ids;
  owner->end_ids.insert(owner->end_ids.end(), request.sampling.stop_ids.begin(),
                        request.sampling.stop_ids.end());
  if (!request.sampling.allowed_ids.empty()) {
    owner->allowed_bits.assign(TokenBitWords(model.vocab_size), 0);
    for (TokenId id : request.sampling.allowed_ids) owner->allowed_bits[id / 32] |= 1u << (id % 32);
  }
  if (request.want_prompt_logprobs) {
    owner->prompt_logprobs.assign(request.prompt.size(), NAN);
    if (request.num_prompt_top_logprobs > 0)
      owner->prompt_top_logprobs.resize(request.prompt.size());
  }
  owner->request = std::move(request);
  return owner;
}

}  // namespace rft
