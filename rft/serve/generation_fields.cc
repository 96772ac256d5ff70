#include "rft/serve/generation_fields.h"

#include <random>
#include <utility>

namespace rft::serve {
namespace {

uint64_t RandomSeed() {
  std::random_device device;
  return (static_cast<uint64_t>(device()) << 32) | device();
}

void ReadStreamOptions(Fields& fields, GenerationFields& out) {
  const json::object* options = fields.Object("stream_options");
  if (options == nullptr) return;
  Fields inner(*options, "stream_options.");
  out.include_usage = inner.Bool("include_usage").value_or(false);
  inner.Ignore({"continuous_usage_stats", "include_obfuscation"});
  if (const absl::Status status = inner.Finish(); !status.ok())
    fields.Fail("stream_options", std::string(status.message()));
  if (!out.stream) fields.Fail("stream_options", "needs \"stream\": true");
}

// Known fields whose work the engine can't do: better refused than ignored.
void RefuseUnsupported(Fields& f) {
  const char* const kNot = "this server does not support it; leave it out";
  f.Only("frequency_penalty", "0", kNot);
  f.Only("presence_penalty", "0", kNot);
  f.Only("repetition_penalty", "1", kNot);
  f.Only("logit_bias", "{}", kNot);
  f.Only("prompt_logprobs", "0", kNot);
  f.Only("response_format", R"({"type":"text"})", "only {\"type\": \"text\"} is supported");
  for (const char* key : {"structured_outputs", "guided_json", "guided_regex", "guided_grammar",
                          "guided_choice", "length_penalty", "use_beam_search", "bad_words",
                          "allowed_token_ids", "truncate_prompt_tokens", "lora", "images"})
    f.Only(key, "null", kNot);
}

}  // namespace

GenerationFields ReadGenerationFields(Fields& f, const ServeLimits& limits, int64_t max_context) {
  GenerationFields out;
  SamplingParams& s = out.sampling;
  out.model = f.Text("model", 1024).value_or("");
  s.temperature = f.Number("temperature", 0.0, 100.0).value_or(1.0);
  s.top_p = f.Number("top_p", 0.0, 1.0).value_or(1.0);
  if (s.top_p == 0.0) f.Fail("top_p", "must be greater than 0");
  s.top_k = static_cast<int32_t>(f.Int("top_k", -1, 1 << 30).value_or(0));
  if (s.top_k < 0) s.top_k = 0;  // vLLM's spelling of "off"
  s.min_p = f.Number("min_p", 0.0, 1.0).value_or(0.0);
  const auto max_tokens = f.Int("max_tokens", 1, max_context);
  out.has_max_tokens = max_tokens.has_value();
  s.max_tokens = static_cast<int32_t>(max_tokens.value_or(0));
  s.min_tokens = static_cast<int32_t>(f.Int("min_tokens", 0, max_context).value_or(0));
  s.ignore_eos = f.Bool("ignore_eos").value_or(false);
  s.stop_strings = f.Texts("stop", limits.max_stop_strings, limits.max_stop_bytes);
  s.stop_ids = f.Ids("stop_token_ids", limits.max_stop_ids).value_or(std::vector<TokenId>());
  out.n = static_cast<int32_t>(f.Int("n", 1, limits.max_n).value_or(1));
  if (f.Int("best_of", 1, limits.max_n).value_or(out.n) != out.n)
    f.Fail("best_of", "must be equal to n: all completions are returned");
  const auto seed = f.Int("seed", INT64_MIN, INT64_MAX);
  out.seed = seed ? static_cast<uint64_t>(*seed) : RandomSeed();
  out.stream = f.Bool("stream").value_or(false);
  ReadStreamOptions(f, out);
  out.return_token_ids = f.Bool("return_token_ids").value_or(false);
  out.tokens_as_ids = f.Bool("return_tokens_as_token_ids").value_or(false);
  out.raw_output = f.Bool("raw_output").value_or(false);
  auto text = std::make_shared<TextOptions>();
  text->stop_strings = s.stop_strings;
  text->include_stop_string = f.Bool("include_stop_str_in_output").value_or(false);
  text->skip_special_tokens = f.Bool("skip_special_tokens").value_or(true);
  out.text = std::move(text);
  RefuseUnsupported(f);
  f.Ignore({"user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key",
            "priority", "request_id", "spaces_between_special_tokens", "detokenize",
            "perf_metrics_in_response", "cache_salt"});
  return out;
}

}  // namespace rft::serve
