// Requests in the words of each kind of server.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "rft/core/status_macros.h"
#include "rft/io/json.h"
#include "rft/remote/http_dialect.h"

namespace rft {
namespace {

uint64_t SeedOf(const RngKey& key) {
  const uint64_t bits = BitsAt(BitsAt(key.run_seed, key.step, key.row), 1, key.rollout);
  return bits >> 1;  // servers read a signed number
}

json::array IdArray(const std::vector<TokenId>& ids) { return json::array(ids.begin(), ids.end()); }

// A schema's text; the one that any value fits if there is none.
std::string SchemaOf(const GrammarSpec& spec) {
  return spec.kind == GrammarSpec::Kind::kAnyJson ? "{}" : spec.text;
}

json::array TextArray(const std::vector<std::string>& texts) {
  return json::array(texts.begin(), texts.end());
}

// vLLM's field of that name.
json::object StructuredOutputs(const GrammarSpec& spec) {
  if (spec.kind == GrammarSpec::Kind::kRegex) return {{"regex", spec.text}};
  if (spec.kind == GrammarSpec::Kind::kEbnf) return {{"grammar", spec.text}};
  return {{"json", SchemaOf(spec)}};
}

// /v1/completions. Fields at their neutral values are left out: not every server knows them all.
json::object OpenAiBody(const HttpEngineOptions& options, const GenerateRequest& r) {
  const SamplingParams& s = r.sampling;
  const HttpDialect dialect = options.dialect;
  json::object body{{"model", options.model},
                    {"prompt", IdArray(r.prompt)},
                    {"n", r.num_samples},
                    {"max_tokens", s.max_tokens},
                    {"temperature", s.temperature},
                    {"seed", SeedOf(r.rng)},
                    {"top_p", s.top_p}};
  body["logprobs"] = dialect == HttpDialect::kRft ? 0 : std::max(1, s.num_top_logprobs);
  if (dialect == HttpDialect::kRft && s.num_top_logprobs > 0) {
    body["logprobs"] = true;  // entries per token
    body["top_logprobs"] = s.num_top_logprobs;
  }
  if (WantsRoutes(options, r)) {
    body["logprobs"] = true;
    body["include_routing_matrix"] = true;
    if (r.routes == RouteCapture::kPromptAndCompletion) body["echo"] = true;
  }
  if (r.want_prompt_logprobs) body["prompt_logprobs"] = r.num_prompt_top_logprobs;
  if (r.grammar != nullptr && dialect != HttpDialect::kLlamaCpp)
    body["structured_outputs"] = StructuredOutputs(*r.grammar->spec());
  if (dialect != HttpDialect::kLlamaCpp) {
    body["return_token_ids"] = true;
    body["return_tokens_as_token_ids"] = true;
  } else {
    body["return_tokens"] = true;
    body["cache_prompt"] = true;
  }
  // llama.cpp's own default is 40, and its min_p 0.05: say what is meant.
  if (s.top_k != 0 || dialect == HttpDialect::kLlamaCpp) body["top_k"] = s.top_k;
  if (s.min_p != 0.0 || dialect == HttpDialect::kLlamaCpp) body["min_p"] = s.min_p;
  if (s.min_tokens != 0) body["min_tokens"] = s.min_tokens;
  if (s.ignore_eos) body["ignore_eos"] = true;
  if (s.presence_penalty != 0.0) body["presence_penalty"] = s.presence_penalty;
  if (s.frequency_penalty != 0.0) body["frequency_penalty"] = s.frequency_penalty;
  if (s.repetition_penalty != 1.0)
    body[dialect == HttpDialect::kLlamaCpp ? "repeat_penalty" : "repetition_penalty"] =
        s.repetition_penalty;
  if (!s.logit_bias.empty()) {
    json::object biases;
    for (const auto& [id, bias] : s.logit_bias) biases[absl::StrCat(id)] = bias;
    body["logit_bias"] = std::move(biases);
  }
  if (!s.allowed_ids.empty()) body["allowed_token_ids"] = IdArray(s.allowed_ids);
  if (r.weight_policy != WeightPolicy::kContinue)
    body["weight_policy"] = WeightPolicyName(r.weight_policy);
  if (!r.cache_salt.empty()) body["cache_salt"] = r.cache_salt;
  if (!s.stop_ids.empty()) body["stop_token_ids"] = IdArray(s.stop_ids);
  if (!s.stop_strings.empty()) body["stop"] = TextArray(s.stop_strings);
  return body;
}

// /completion: unlike /v1/completions it says which tokens it drew even where it says nothing else of them.
json::object LlamaCppBody(const HttpEngineOptions& options, const GenerateRequest& r) {
  json::object body = OpenAiBody(options, r);
  for (const char* key : {"n", "max_tokens", "logprobs"}) body.erase(key);
  body["n_cmpl"] = r.num_samples;
  body["n_predict"] = r.sampling.max_tokens;
  body["n_probs"] = std::max(1, r.sampling.num_top_logprobs);
  if (r.grammar == nullptr) return body;
  const GrammarSpec& spec = *r.grammar->spec();
  if (spec.kind == GrammarSpec::Kind::kEbnf)
    body["grammar"] = spec.text;
  else
    body["json_schema"] = ParseJson(SchemaOf(spec)).value_or(json::object());
  return body;
}

json::object SglangBody(const GenerateRequest& r) {
  const SamplingParams& s = r.sampling;
  json::object sampling{{"n", r.num_samples},
                        {"max_new_tokens", s.max_tokens},
                        {"min_new_tokens", s.min_tokens},
                        {"temperature", s.temperature},
                        {"top_p", s.top_p},
                        {"top_k", s.top_k == 0 ? -1 : s.top_k},
                        {"min_p", s.min_p},
                        {"ignore_eos", s.ignore_eos},
                        {"stop_token_ids", IdArray(s.stop_ids)},
                        {"stop", TextArray(s.stop_strings)},
                        {"presence_penalty", s.presence_penalty},
                        {"frequency_penalty", s.frequency_penalty},
                        {"repetition_penalty", s.repetition_penalty},
                        {"no_stop_trim", true},
                        {"sampling_seed", SeedOf(r.rng)}};
  if (r.grammar != nullptr) {
    const GrammarSpec& spec = *r.grammar->spec();
    if (spec.kind == GrammarSpec::Kind::kRegex)
      sampling["regex"] = spec.text;
    else if (spec.kind == GrammarSpec::Kind::kEbnf)
      sampling["ebnf"] = spec.text;
    else
      sampling["json_schema"] = SchemaOf(spec);
  }
  json::object body{{"input_ids", IdArray(r.prompt)},
                    {"sampling_params", std::move(sampling)},
                    {"return_logprob", true}};
  // One number for prompt and completion.
  if (const int32_t top = std::max(s.num_top_logprobs, r.num_prompt_top_logprobs); top > 0)
    body["top_logprobs_num"] = top;
  if (r.want_prompt_logprobs) body["logprob_start_len"] = 0;
  return body;
}

// A server compiles a grammar itself: it needs the text.
absl::Status CheckGrammar(HttpDialect dialect, const TokenGrammar* grammar) {
  if (grammar == nullptr) return absl::OkStatus();
  if (grammar->spec() == nullptr)
    return absl::InvalidArgumentError(
        "grammar: this one is code of its own, which no server can run; give a JSON schema, a "
        "regular expression or an EBNF");
  if (grammar->spec()->kind == GrammarSpec::Kind::kToolCall)
    return absl::InvalidArgumentError("grammar: a tool call can't be asked of a server by its ids");
  if (grammar->spec()->kind == GrammarSpec::Kind::kRegex && dialect == HttpDialect::kLlamaCpp)
    return absl::InvalidArgumentError(
        "grammar: llama.cpp's server knows no regular expressions; write it as EBNF");
  return absl::OkStatus();
}

}  // namespace

bool WantsRoutes(const HttpEngineOptions& options, const GenerateRequest& r) {
  return r.routes != RouteCapture::kNone && options.routes.token_bytes() > 0;
}

absl::StatusOr<HttpCall> GenerateCall(const HttpEngineOptions& options, const GenerateRequest& r) {
  const bool stop_ids_unknown = options.dialect == HttpDialect::kLlamaCpp &&
                                (!r.sampling.stop_ids.empty() || r.sampling.min_tokens > 0);
  if (stop_ids_unknown)
    return absl::InvalidArgumentError(
        "stop_ids, min_tokens: llama.cpp's server does not know them");
  RFT_RETURN_IF_ERROR(CheckGrammar(options.dialect, r.grammar.get()));
  if (r.want_prompt_logprobs && options.dialect == HttpDialect::kLlamaCpp)
    return absl::InvalidArgumentError(
        "want_prompt_logprobs: llama.cpp's server does not score prompts");
  const bool ours = options.dialect == HttpDialect::kRft;
  if (!r.sampling.allowed_ids.empty() && !ours && options.dialect != HttpDialect::kVllm)
    return absl::InvalidArgumentError("allowed_ids: this kind of server does not know them");
  if (r.weight_policy != WeightPolicy::kContinue && !ours)
    return absl::InvalidArgumentError("weight_policy: a server has its own; leave it at kContinue");
  if (!r.cache_salt.empty() && !ours && options.dialect != HttpDialect::kVllm)
    return absl::InvalidArgumentError("cache_salt: this kind of server does not know it");
  if (WantsRoutes(options, r) && !ours)
    return absl::InvalidArgumentError(
        "routes: only rft serve gives the experts of every token; set trainer.routing_replay to "
        "old-policy or off");
  if (options.dialect == HttpDialect::kSglang && !r.sampling.logit_bias.empty())
    return absl::InvalidArgumentError("logit_bias: not in SGLang's /generate");
  if (options.dialect == HttpDialect::kSglang) return HttpCall{"/generate", ToJson(SglangBody(r))};
  if (options.dialect == HttpDialect::kLlamaCpp)
    return HttpCall{"/completion", ToJson(LlamaCppBody(options, r))};
  return HttpCall{"/v1/completions", ToJson(OpenAiBody(options, r))};
}

absl::StatusOr<HttpCall> UpdateCall(HttpDialect dialect, const FolderWeights& weights) {
  if (dialect == HttpDialect::kRft)
    return HttpCall{"/update_weights", ToJson(json::object{{"path", weights.folder},
                                                           {"weight_version", weights.number}})};
  if (dialect == HttpDialect::kSglang)
    return HttpCall{"/update_weights_from_disk",
                    ToJson(json::object{{"model_path", weights.folder},
                                        {"weight_version", absl::StrCat(weights.number)}})};
  return absl::UnimplementedError("this kind of server has no route that loads weights");
}

}  // namespace rft
