// The fields that /v1/completions and /v1/chat/completions share: sampling, and what the reply is to contain.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "rft/api/inference_engine.h"
#include "rft/api/token_mask.h"
#include "rft/serve/completion_text.h"
#include "rft/serve/fields.h"
#include "rft/serve/limits.h"

namespace rft::serve {

struct GenerationFields {
  std::string model;
  SamplingParams sampling;
  bool has_max_tokens = false;  // otherwise what the endpoint thinks best
  int32_t n = 1;
  uint64_t seed = 0;  // drawn if the request has none
  bool stream = false;
  bool include_usage = false;
  bool continuous_usage = false;  // in every chunk, of what there is so far
  bool return_token_ids =
      false;                   // and weight versions, sampling log-probabilities, the prompt's ids
  bool tokens_as_ids = false;  // "token_id:42" instead of text in log-probabilities
  bool raw_output = false;     // Fireworks' name for the ids
  bool include_routing_matrix = false;  // the experts of every token (rft/core/routes.h)
  bool prompt_only = false;             // max_tokens 0
  bool want_prompt = false;             // the prompt's log-probabilities, for an echo
  bool prompt_logprobs = false;         // the field of that name
  int32_t num_prompt_top_logprobs = 0;
  std::optional<GrammarSpec> grammar;  // what the completion's text must be
  WeightPolicy weight_policy = WeightPolicy::kContinue;
  std::string user;
  std::string cache_salt;
  std::string grammar_field;  // that asked for it
  std::shared_ptr<const TextOptions> text;
};

// Mistakes are left in `fields`.
GenerationFields ReadGenerationFields(Fields& fields, const ServeLimits& limits,
                                      int64_t max_context);

}  // namespace rft::serve
