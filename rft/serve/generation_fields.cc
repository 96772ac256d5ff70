#include "rft/serve/generation_fields.h"

#include <algorithm>
#include <random>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "rft/core/text.h"

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
  out.continuous_usage = inner.Bool("continuous_usage_stats").value_or(false) && out.include_usage;
  inner.Ignore({"include_obfuscation"});
  fields.Take(inner.Finish());
  if (!out.stream) fields.Fail("stream_options", "needs \"stream\": true");
}

// {"50256": -100}
std::vector<std::pair<TokenId, float>> ReadLogitBias(Fields& fields, const ServeLimits& limits) {
  std::vector<std::pair<TokenId, float>> biases;
  const json::object* given = fields.Object("logit_bias");
  if (given == nullptr) return biases;
  if (given->size() > limits.max_logit_biases)
    fields.Fail("logit_bias", absl::StrCat("has ", given->size(), " tokens; at most ",
                                           limits.max_logit_biases, " are allowed"));
  for (const json::key_value_pair& item : *given) {
    if (!fields.ok()) break;
    TokenId id = -1;
    const bool is_id =
        absl::SimpleAtoi(absl::string_view(item.key().data(), item.key().size()), &id);
    const auto bias =
        item.value().is_number() ? ToDouble(item.value()) : absl::InvalidArgumentError("");
    if (!is_id || id < 0 || !bias.ok() || !(*bias >= -100.0 && *bias <= 100.0)) {
      fields.Fail("logit_bias", "must map token ids to numbers in -100 .. 100");
      break;
    }
    biases.emplace_back(id, static_cast<float>(*bias));
  }
  return biases;
}

// A schema is written out again; other kinds are texts.
void SetGrammar(Fields& fields, std::string_view key, GrammarSpec::Kind kind, std::string text,
                const ServeLimits& limits, GenerationFields& out) {
  if (out.grammar) return fields.Fail(key, "only one constraint on the text is possible");
  if (text.size() > limits.max_grammar_bytes)
    return fields.Fail(key, absl::StrCat("has ", text.size(), " bytes; at most ",
                                         limits.max_grammar_bytes, " are allowed"));
  out.grammar = GrammarSpec{kind, std::move(text)};
  out.grammar_field = std::string(key);
}

// OpenAI's response_format: text, json_object, or json_schema with its schema.
void ReadResponseFormat(Fields& fields, const ServeLimits& limits, GenerationFields& out) {
  const json::object* format = fields.Object("response_format");
  if (format == nullptr) return;
  const json::value* type = format->if_contains("type");
  if (type == nullptr || *type == "json_schema") {
    const json::value* schema = format->if_contains("json_schema");
    if (schema != nullptr && schema->is_object())
      schema = schema->get_object().if_contains("schema");
    if (type == nullptr || schema == nullptr || !schema->is_object())
      return fields.Fail(
          "response_format",
          "must be {\"type\": \"json_schema\", \"json_schema\": {\"schema\": {...}}}");
    SetGrammar(fields, "response_format", GrammarSpec::Kind::kJsonSchema, ToJson(*schema), limits,
               out);
  } else if (*type == "json_object") {
    // Any JSON value would also do for the kind kAnyJson; OpenAI promises an object.
    SetGrammar(fields, "response_format", GrammarSpec::Kind::kJsonSchema, R"({"type": "object"})",
               limits, out);
  } else if (*type != "text") {
    fields.Fail("response_format", "type must be text, json_object or json_schema");
  }
}

// vLLM's names, in `structured_outputs` and, older, beside it.
void ReadConstraint(Fields& fields, const std::string& key, std::string_view kind,
                    const ServeLimits& limits, GenerationFields& out) {
  const json::value* given = fields.Any(key);
  if (given == nullptr) return;
  const json::string* said = given->if_string();
  const std::string text = said ? std::string(said->data(), said->size()) : "";
  if (kind == "json")
    return SetGrammar(fields, key, GrammarSpec::Kind::kJsonSchema, said ? text : ToJson(*given),
                      limits, out);
  if (kind == "json_object") {
    if (*given != json::value(true)) return fields.Fail(key, "must be true");
    return SetGrammar(fields, key, GrammarSpec::Kind::kJsonSchema, R"({"type": "object"})", limits,
                      out);
  }
  if (kind == "choice") {
    const std::vector<std::string> choices = fields.Texts(key, 1024, 4096);
    std::string rule = "root ::= ";
    for (size_t i = 0; i < choices.size(); ++i)
      absl::StrAppend(&rule, i ? " | " : "", JsonQuote(choices[i]));
    return SetGrammar(fields, key, GrammarSpec::Kind::kEbnf, std::move(rule), limits, out);
  }
  if (text.empty()) return fields.Fail(key, "must be text");
  SetGrammar(fields, key, kind == "regex" ? GrammarSpec::Kind::kRegex : GrammarSpec::Kind::kEbnf,
             text, limits, out);
}

void ReadGrammar(Fields& fields, const ServeLimits& limits, GenerationFields& out) {
  ReadResponseFormat(fields, limits, out);
  constexpr const char* kKinds[] = {"json", "json_object", "regex", "grammar", "choice"};
  for (const char* kind : kKinds)
    ReadConstraint(fields, absl::StrCat("guided_", kind), kind, limits, out);
  const json::object* structured = fields.Object("structured_outputs");
  if (structured == nullptr) return;
  Fields inner(*structured, "structured_outputs.");
  for (const char* kind : kKinds) ReadConstraint(inner, kind, kind, limits, out);
  fields.Take(inner.Finish());
}

// What a weight update means for this request while it runs.
WeightPolicy ReadWeightPolicy(Fields& f) {
  const auto policy = ParseWeightPolicy(f.Text("weight_policy", 16).value_or("continue"));
  if (!policy) f.Fail("weight_policy", "must be continue, finish or recompute");
  return policy.value_or(WeightPolicy::kContinue);
}

// Known fields whose work the engine can't do: better refused than ignored.
void RefuseUnsupported(Fields& f) {
  const char* const kNot = "this server does not support it; leave it out";
  for (const char* key : {"length_penalty", "use_beam_search", "bad_words",
                          "truncate_prompt_tokens", "lora", "images"})
    f.Only(key, "null", kNot);
  f.Only("priority", "0", "requests take turns here; leave it out");
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
  const auto max_tokens = f.Int("max_tokens", 0, max_context);
  out.has_max_tokens = max_tokens.has_value();
  out.prompt_only = max_tokens == 0;
  s.max_tokens = static_cast<int32_t>(std::max<int64_t>(1, max_tokens.value_or(0)));
  s.min_tokens = static_cast<int32_t>(f.Int("min_tokens", 0, max_context).value_or(0));
  s.ignore_eos = f.Bool("ignore_eos").value_or(false);
  s.repetition_penalty = f.Number("repetition_penalty", 0.01, 100.0).value_or(1.0);
  s.presence_penalty = f.Number("presence_penalty", -2.0, 2.0).value_or(0.0);
  s.frequency_penalty = f.Number("frequency_penalty", -2.0, 2.0).value_or(0.0);
  s.logit_bias = ReadLogitBias(f, limits);
  s.allowed_ids =
      f.Ids("allowed_token_ids", limits.max_allowed_ids).value_or(std::vector<TokenId>());
  if (const auto top = f.Int("prompt_logprobs", 0, limits.max_top_logprobs)) {
    out.prompt_logprobs = true;
    out.num_prompt_top_logprobs = static_cast<int32_t>(*top);
  }
  ReadGrammar(f, limits, out);
  out.weight_policy = ReadWeightPolicy(f);
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
  out.include_routing_matrix = f.Bool("include_routing_matrix").value_or(false);
  auto text = std::make_shared<TextOptions>();
  text->stop_strings = s.stop_strings;
  text->include_stop_string = f.Bool("include_stop_str_in_output").value_or(false);
  text->skip_special_tokens = f.Bool("skip_special_tokens").value_or(true);
  text->detokenize = f.Bool("detokenize").value_or(true);
  if (!text->detokenize && !s.stop_strings.empty()) f.Fail("detokenize", "stop needs the text");
  out.text = std::move(text);
  out.user = f.Text("user", 1024).value_or("");
  out.cache_salt = f.Text("cache_salt", 1024).value_or("");
  RefuseUnsupported(f);
  // docs/serving.md lists them.
  f.Ignore({"metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key",
            "request_id", "spaces_between_special_tokens", "perf_metrics_in_response"});
  return out;
}

}  // namespace rft::serve
