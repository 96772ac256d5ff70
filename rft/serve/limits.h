// What one request may ask for. Checked before anything is allocated for it.
#pragma once

#include <cstddef>
#include <cstdint>

namespace rft::serve {

struct ServeLimits {
  int64_t max_n = 128;             // completions per prompt
  size_t max_prompts = 1024;       // per request
  int64_t max_completions = 4096;  // prompts times n
  size_t max_messages = 1024;      // of one chat
  size_t max_tools = 128;
  size_t max_tools_bytes = 1 << 20;  // of JSON
  size_t max_stop_strings = 16;
  size_t max_stop_bytes = 256;
  size_t max_stop_ids = 256;
  size_t max_logit_biases = 1024;
  size_t max_allowed_ids = 65536;
  size_t max_grammar_bytes = 256 << 10;  // of a JSON schema, regular expression or EBNF
  int64_t max_top_logprobs = 20;
  size_t max_json_depth = 48;
  size_t max_adapters = 64;
  size_t max_held_requests = 1024;  // that wait for /resume
};

}  // namespace rft::serve
