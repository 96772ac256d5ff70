// The section `rollout` of RunConfig: what is sampled in a step, and how.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "rft/config/field.h"

namespace rft {

struct RolloutConfig {
  int64_t prompts_per_step = 8;
  int64_t group_size = 8;
  double temperature = 1.0;
  double top_p = 1.0;
  int64_t top_k = 0;
  double min_p = 0.0;
  int64_t max_tokens = 64;
  int64_t min_tokens = 0;
  std::vector<std::string> stop_strings;
  bool ignore_eos = false;
  double repetition_penalty = 1.0;
  double presence_penalty = 0.0;
  double frequency_penalty = 0.0;
  std::string json_schema;
  std::string regex;
  std::string ebnf;
  int64_t max_refill_rounds = 3;
  int64_t max_staleness = 0;
  bool mask_truncated = false;
  int64_t overlong_buffer = 0;
  double overlong_factor = 1.0;

  void Visit(ConfigVisitor& v) {
    v.Field("prompts_per_step", &prompts_per_step,
            {.doc = "Groups that make one optimizer step.", .unit = "groups", .min = 1});
    v.Field("group_size", &group_size,
            {.doc = "Completions per prompt; a group of one has nothing to compare.",
             .unit = "rollouts",
             .min = 2});
    v.Field("temperature", &temperature, {.doc = "Sampling temperature; 0: greedy.", .min = 0});
    v.Field("top_p", &top_p,
            {.doc = "Keep the most likely tokens up to this probability; 1: off.",
             .above = 0,
             .max = 1});
    v.Field("top_k", &top_k,
            {.doc = "Keep this many most likely tokens; 0: off.", .unit = "tokens", .min = 0});
    v.Field("min_p", &min_p,
            {.doc = "Drop tokens less likely than this times the most likely one; 0: off.",
             .min = 0,
             .max = 1});
    v.Field("max_tokens", &max_tokens, {.doc = "Longest completion.", .unit = "tokens", .min = 1});
    v.Field("min_tokens", &min_tokens,
            {.doc = "No end before this many.", .unit = "tokens", .min = 0});
    v.Field("stop_strings", &stop_strings,
            {.doc = "A completion ends with the token that completes one of these."});
    v.Field("ignore_eos", &ignore_eos, {.doc = "Go on to max_tokens past the model's end tokens."});
    v.Field("repetition_penalty", &repetition_penalty,
            {.doc = "Divides positive logits of tokens that the prompt or the completion has, and "
                    "multiplies negative ones; 1: off.",
             .above = 0,
             .max = 100});
    v.Field("presence_penalty", &presence_penalty,
            {.doc = "Subtracted from the logit of each token that the completion has.",
             .min = -2,
             .max = 2});
    v.Field("frequency_penalty", &frequency_penalty,
            {.doc = "The same, times how often the completion has it.", .min = -2, .max = 2});
    v.Field("json_schema", &json_schema,
            {.doc = "Only completions that match this JSON schema are sampled; needs xgrammar. At "
                    "most one of json_schema, regex and ebnf."});
    v.Field("regex", &regex, {.doc = "The same for a regular expression."});
    v.Field("ebnf", &ebnf, {.doc = "The same for a grammar in EBNF whose start is `root`."});
    v.Field("max_refill_rounds", &max_refill_rounds,
            {.doc = "How often dropped groups are replaced by new prompts before the step goes on "
                    "with what it has.",
             .unit = "rounds",
             .min = 0});
    v.Field("max_staleness", &max_staleness,
            {.doc = "How many weight versions old a rollout may be when it is trained on; only 0 "
                    "(sampled with the latest weights) is implemented.",
             .unit = "versions",
             .min = 0,
             .max = 0});
    v.Field("mask_truncated", &mask_truncated,
            {.doc = "Do not train on completions cut off at max_tokens."});
    v.Field("overlong_buffer", &overlong_buffer,
            {.doc = "Over the last this many tokens before max_tokens the reward goes down, by "
                    "overlong_factor at the end; 0: off.",
             .unit = "tokens",
             .min = 0});
    v.Field("overlong_factor", &overlong_factor,
            {.doc = "Largest overlong penalty.", .unit = "reward", .min = 0});
  }
};

}  // namespace rft
