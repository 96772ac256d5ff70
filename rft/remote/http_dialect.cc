#include "rft/remote/http_dialect.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "rft/core/status_macros.h"
#include "rft/io/json.h"

namespace rft {
namespace {

// Sums of rounded probabilities may exceed 1 by a little.
constexpr double kLogprobSlack = 1e-2;

absl::Status Wrong(const std::string& what) {
  return absl::DataLossError(absl::StrCat("the server's reply: ", what));
}

uint64_t SeedOf(const RngKey& key) {
  const uint64_t bits = BitsAt(BitsAt(key.run_seed, key.step, key.row), 1, key.rollout);
  return bits >> 1;  // servers read a signed number
}

bool SamplesPlainly(const SamplingParams& s) {
  return s.temperature == 1.0 && s.top_k == 0 && s.top_p == 1.0 && s.min_p == 0.0 &&
         !s.ChangesLogits();
}

bool WantsRoutes(const HttpEngineOptions& options, const GenerateRequest& r) {
  return r.routes != RouteCapture::kNone && options.routes.token_bytes() > 0;
}

json::array IdArray(const std::vector<TokenId>& ids) { return json::array(ids.begin(), ids.end()); }

json::array TextArray(const std::vector<std::string>& texts) {
  return json::array(texts.begin(), texts.end());
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
  body["logprobs"] = dialect == HttpDialect::kRft ? 0 : 1;
  if (WantsRoutes(options, r)) {
    body["logprobs"] = true;  // entries per token
    body["include_routing_matrix"] = true;
    if (r.routes == RouteCapture::kPromptAndCompletion) body["echo"] = true;
  }
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
    body["weight_policy"] = r.weight_policy == WeightPolicy::kFinish ? "finish" : "recompute";
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
  body["n_probs"] = 1;
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
  return {{"input_ids", IdArray(r.prompt)},
          {"sampling_params", std::move(sampling)},
          {"return_logprob", true}};
}

std::optional<TokenId> IdOf(const json::value& value) {
  if (!value.is_int64() || value.get_int64() < 0 ||
      value.get_int64() > std::numeric_limits<TokenId>::max())
    return std::nullopt;
  return static_cast<TokenId>(value.get_int64());
}

absl::StatusOr<std::vector<TokenId>> ReadIdArray(const json::value& value) {
  if (!value.is_array()) return Wrong("token ids are no list");
  std::vector<TokenId> ids;
  for (const json::value& item : value.get_array()) {
    const std::optional<TokenId> id = IdOf(item);
    if (!id) return Wrong(absl::StrCat("token ", ids.size(), " is no id"));
    ids.push_back(*id);
  }
  return ids;
}

absl::StatusOr<std::vector<float>> ReadFloats(const json::value& value, const char* what) {
  if (!value.is_array()) return Wrong(absl::StrCat(what, " is no list"));
  std::vector<float> numbers;
  for (const json::value& item : value.get_array()) {
    const double number =
        item.is_number() ? ToDouble(item).value() : std::numeric_limits<double>::quiet_NaN();
    if (!std::isfinite(number) || number > kLogprobSlack)
      return Wrong(absl::StrCat(what, "[", numbers.size(),
                                "] is no log-probability: ", ToJson(item).substr(0, 40)));
    numbers.push_back(static_cast<float>(std::min(number, 0.0)));
  }
  return numbers;
}

const json::value* Member(const json::value& value, const char* key) {
  const json::object* object = value.if_object();
  const json::value* found = object ? object->if_contains(key) : nullptr;
  return found != nullptr && !found->is_null() ? found : nullptr;
}

absl::StatusOr<FinishReason> ReadFinishReason(const json::value* value) {
  if (value == nullptr || !value->is_string()) return Wrong("no finish_reason");
  const json::string& text = value->get_string();
  if (text == "stop" || text == "tool_calls") return FinishReason::kStop;
  if (text == "length") return FinishReason::kLength;
  if (text == "abort") return FinishReason::kCancelled;
  return Wrong(absl::StrCat("finish_reason is '", std::string(text.c_str()).substr(0, 40), "'"));
}

// {"content": [{"logprob", "token_id" or "id"}]}, as Fireworks, rft and llama.cpp write it.
absl::Status ReadContent(const json::value& content, Completion& c) {
  if (!content.is_array()) return Wrong("logprobs.content is no list");
  json::array logprobs;
  for (const json::value& item : content.get_array()) {
    const json::value* id = Member(item, "token_id");
    if (id == nullptr) id = Member(item, "id");
    if (id == nullptr || !IdOf(*id))
      return absl::UnimplementedError("the server gives no token ids");
    c.ids.push_back(*IdOf(*id));
    const json::value* logprob = Member(item, "logprob");
    logprobs.push_back(logprob ? *logprob : json::value());
  }
  RFT_ASSIGN_OR_RETURN(c.logprobs, ReadFloats(logprobs, "logprobs"));
  return absl::OkStatus();
}

// "token_id:42"
absl::StatusOr<std::vector<TokenId>> ReadTokenTexts(const json::value& tokens) {
  if (!tokens.is_array()) return Wrong("logprobs.tokens is no list");
  json::array ids;
  for (const json::value& token : tokens.get_array()) {
    const std::string text = token.is_string() ? std::string(token.get_string().c_str()) : "";
    int64_t id = -1;
    if (!absl::StartsWith(text, "token_id:") || !absl::SimpleAtoi(text.substr(9), &id))
      return absl::UnimplementedError("the server gives no token ids");
    ids.push_back(id);
  }
  return ReadIdArray(ids);
}

// The experts of `content`'s tokens, from `first` on; every one must have them.
absl::StatusOr<std::vector<uint8_t>> ReadRoutes(const RouteCodec& codec, const json::array& content,
                                                size_t first) {
  std::vector<uint8_t> packed;
  for (size_t i = first; i < content.size(); ++i) {
    const json::value* text = Member(content[i], "routing_matrix");
    if (text == nullptr || !text->is_string())
      return absl::UnimplementedError(
          "the server gives no routing_matrix; set trainer.routing_replay to old-policy or off");
    const json::string& wire = text->get_string();
    const auto bytes = codec.FromWire(std::string_view(wire.data(), wire.size()));
    if (!bytes.ok()) return Wrong(absl::StrCat("routing_matrix: ", bytes.status().message()));
    packed.insert(packed.end(), bytes->begin(), bytes->end());
  }
  return packed;
}

// An echo begins with the prompt's tokens: they are taken off `content`, and their experts kept. Nothing predicted the first.
absl::Status TakePrompt(const HttpEngineOptions& options, const GenerateRequest& r,
                        json::array* content, Completion* c) {
  const size_t length = r.prompt.size();
  if (content->size() < length) return Wrong("logprobs.content does not begin with the prompt");
  const json::array prompt(content->begin(), content->begin() + static_cast<int64_t>(length));
  for (size_t i = 0; i < length; ++i) {
    const json::value* id = Member(prompt[i], "token_id");
    if (id == nullptr || IdOf(*id) != r.prompt[i])
      return Wrong("logprobs.content does not begin with the prompt");
  }
  RFT_ASSIGN_OR_RETURN(const std::vector<uint8_t> routes, ReadRoutes(options.routes, prompt, 1));
  c->prompt_routes.assign(static_cast<size_t>(options.routes.token_bytes()), 0);
  c->prompt_routes.insert(c->prompt_routes.end(), routes.begin(), routes.end());
  content->erase(content->begin(), content->begin() + static_cast<int64_t>(length));
  return absl::OkStatus();
}

absl::StatusOr<Completion> ReadOpenAiChoice(const HttpEngineOptions& options,
                                            const json::value& choice, const GenerateRequest& r) {
  Completion c;
  RFT_ASSIGN_OR_RETURN(c.finish_reason, ReadFinishReason(Member(choice, "finish_reason")));
  const json::value* logprobs = Member(choice, "logprobs");
  if (logprobs == nullptr) return absl::UnimplementedError("the server gives no log-probabilities");
  if (const json::value* content = Member(*logprobs, "content")) {
    json::value entries = *content;
    if (WantsRoutes(options, r) && entries.is_array()) {
      if (r.routes == RouteCapture::kPromptAndCompletion)
        RFT_RETURN_IF_ERROR(TakePrompt(options, r, &entries.get_array(), &c));
      RFT_ASSIGN_OR_RETURN(c.routes, ReadRoutes(options.routes, entries.get_array(), 0));
    }
    RFT_RETURN_IF_ERROR(ReadContent(entries, c));
  } else if (const json::value* tokens = Member(*logprobs, "tokens")) {
    RFT_ASSIGN_OR_RETURN(c.ids, ReadTokenTexts(*tokens));
    const json::value* values = Member(*logprobs, "token_logprobs");
    RFT_ASSIGN_OR_RETURN(c.logprobs,
                         ReadFloats(values ? *values : json::value(), "token_logprobs"));
  } else {
    return absl::UnimplementedError("the server gives no log-probabilities");
  }
  if (const json::value* ids = Member(choice, "token_ids")) {
    RFT_ASSIGN_OR_RETURN(const std::vector<TokenId> again, ReadIdArray(*ids));
    if (again != c.ids) return Wrong("token_ids and logprobs are of different tokens");
  }
  if (const json::value* prompt = Member(choice, "prompt_token_ids")) {
    RFT_ASSIGN_OR_RETURN(const std::vector<TokenId> echoed, ReadIdArray(*prompt));
    if (echoed != r.prompt) return Wrong("it answers another prompt");
  }
  if (const json::value* sampling = Member(choice, "sampling_logprobs")) {
    RFT_ASSIGN_OR_RETURN(c.sampling_logprobs, ReadFloats(*sampling, "sampling_logprobs"));
  }
  if (const json::value* versions = Member(choice, "weight_versions")) {
    if (!versions->is_array()) return Wrong("weight_versions is no list");
    for (const json::value& version : versions->get_array()) {
      if (!version.is_int64()) return Wrong("a weight version is no whole number");
      c.versions.push_back(version.get_int64());
    }
  }
  return c;
}

absl::StatusOr<Completion> ReadSglangChoice(const json::value& choice) {
  Completion c;
  const json::value* meta = Member(choice, "meta_info");
  const json::value* pairs = meta ? Member(*meta, "output_token_logprobs") : nullptr;
  if (pairs == nullptr || !pairs->is_array())
    return absl::UnimplementedError("the server gives no log-probabilities");
  json::array ids, logprobs;
  for (const json::value& pair : pairs->get_array()) {  // [logprob, id, text or null]
    if (!pair.is_array() || pair.get_array().size() < 2) return Wrong("output_token_logprobs");
    logprobs.push_back(pair.get_array()[0]);
    ids.push_back(pair.get_array()[1]);
  }
  RFT_ASSIGN_OR_RETURN(c.ids, ReadIdArray(ids));
  RFT_ASSIGN_OR_RETURN(c.logprobs, ReadFloats(logprobs, "output_token_logprobs"));
  const json::value* reason = Member(*meta, "finish_reason");
  RFT_ASSIGN_OR_RETURN(c.finish_reason,
                       ReadFinishReason(reason ? Member(*reason, "type") : nullptr));
  if (const json::value* again = Member(choice, "output_ids")) {
    RFT_ASSIGN_OR_RETURN(const std::vector<TokenId> output, ReadIdArray(*again));
    if (output != c.ids)
      return Wrong("output_ids and output_token_logprobs are of different tokens");
  }
  return c;
}

// llama.cpp's server leaves tokens out of its log-probabilities that end within a character (UTF-8), and those of a stop string.
absl::StatusOr<Completion> ReadLlamaCppChoice(const json::value& choice) {
  const json::value *tokens = Member(choice, "tokens"),
                    *content = Member(choice, "completion_probabilities"),
                    *stop = Member(choice, "stop_type");
  if (tokens == nullptr) return absl::UnimplementedError("the server gives no token ids");
  if (content == nullptr) return absl::UnimplementedError("the server gives no log-probabilities");
  if (stop == nullptr || (*stop != "eos" && *stop != "word" && *stop != "limit"))
    return Wrong("no stop_type");
  Completion c;
  RFT_RETURN_IF_ERROR(ReadContent(*content, c));
  RFT_ASSIGN_OR_RETURN(const std::vector<TokenId> drawn, ReadIdArray(*tokens));
  c.finish_reason = *stop == "limit" ? FinishReason::kLength : FinishReason::kStop;
  const auto [said, made] = std::mismatch(c.ids.begin(), c.ids.end(), drawn.begin(), drawn.end());
  if (said == c.ids.end() && (made == drawn.end() || *stop == "word")) return c;
  const int64_t position = made - drawn.begin();
  c = Completion();
  c.finish_reason = FinishReason::kError;
  c.error = absl::StrCat("UNIMPLEMENTED: the server gives no log-probability of token ", position,
                         ", after which a character is incomplete");
  return c;
}

absl::Status Check(const HttpEngineOptions& options, const GenerateRequest& r, Completion& c) {
  const size_t count = c.ids.size();
  if (count > static_cast<size_t>(r.sampling.max_tokens))
    return Wrong(
        absl::StrCat(count, " tokens where at most ", r.sampling.max_tokens, " were asked for"));
  if (count == 0 && c.finish_reason != FinishReason::kCancelled)
    return Wrong("a completion without tokens");
  if (c.finish_reason == FinishReason::kLength &&
      count < static_cast<size_t>(r.sampling.max_tokens))
    return Wrong(absl::StrCat("finish_reason is length after ", count, " of ",
                              r.sampling.max_tokens, " tokens"));
  if (c.logprobs.size() != count)
    return Wrong(absl::StrCat(count, " tokens with ", c.logprobs.size(), " log-probabilities"));
  for (const TokenId id : c.ids)
    if (options.vocab_size > 0 && id >= options.vocab_size)
      return Wrong(
          absl::StrCat("token ", id, " is outside the vocabulary of ", options.vocab_size));
  if (c.sampling_logprobs.empty()) {
    if (r.sampling.temperature == 0.0)
      c.sampling_logprobs.assign(count, 0.0f);  // the only token that could be drawn
    else if (SamplesPlainly(r.sampling))
      c.sampling_logprobs = c.logprobs;
    else
      return absl::UnimplementedError(
          "the server does not give the log-probabilities of the distribution sampled from; use "
          "temperature 1 (or 0) without top_p, top_k and min_p");
  }
  if (c.sampling_logprobs.size() != count)
    return Wrong("sampling_logprobs has another length than the tokens");
  if (!c.versions.empty() && c.versions.size() != count)
    return Wrong("weight_versions has another length than the tokens");
  if (WantsRoutes(options, r) && c.routes.empty() && count > 0)
    return absl::UnimplementedError(
        "the server gives no routing_matrix; set trainer.routing_replay to old-policy or off");
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<HttpCall> GenerateCall(const HttpEngineOptions& options, const GenerateRequest& r) {
  const bool stop_ids_unknown = options.dialect == HttpDialect::kLlamaCpp &&
                                (!r.sampling.stop_ids.empty() || r.sampling.min_tokens > 0);
  if (stop_ids_unknown)
    return absl::InvalidArgumentError(
        "stop_ids, min_tokens: llama.cpp's server does not know them");
  if (r.grammar != nullptr || r.want_prompt_logprobs || r.sampling.num_top_logprobs > 0)
    return absl::InvalidArgumentError(
        "grammar, want_prompt_logprobs, num_top_logprobs: not over HTTP; use the engine local");
  const bool ours = options.dialect == HttpDialect::kRft;
  if (!r.sampling.allowed_ids.empty() && !ours && options.dialect != HttpDialect::kVllm)
    return absl::InvalidArgumentError("allowed_ids: this kind of server does not know them");
  if (r.weight_policy != WeightPolicy::kContinue && !ours)
    return absl::InvalidArgumentError("weight_policy: a server has its own; leave it at kContinue");
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

absl::StatusOr<std::vector<Completion>> ReadReply(const HttpEngineOptions& options,
                                                  const GenerateRequest& r,
                                                  const std::string& body) {
  JsonLimits limits;
  limits.max_bytes = options.max_response_bytes;
  const auto reply = ParseJson(body, limits);
  if (!reply.ok()) return Wrong(absl::StrCat("not JSON: ", reply.status().message()));
  const bool sglang = options.dialect == HttpDialect::kSglang,
             llama = options.dialect == HttpDialect::kLlamaCpp, bare = sglang || llama;
  const json::value* choices = bare ? &*reply : Member(*reply, "choices");
  const json::array one = choices ? json::array{*choices} : json::array();
  if (choices == nullptr || (!choices->is_array() && !bare)) return Wrong("no choices");
  const json::array& items = choices->is_array() ? choices->get_array() : one;
  if (items.size() != static_cast<size_t>(r.num_samples))
    return Wrong(absl::StrCat(items.size(), " choices where ", r.num_samples, " were asked for"));
  std::vector<Completion> completions(items.size());
  std::vector<bool> seen(items.size());
  for (size_t i = 0; i < items.size(); ++i) {
    int64_t index = static_cast<int64_t>(i);
    if (const json::value* given = Member(items[i], "index"))  // in any order
      index = given->is_int64() ? given->get_int64() : -1;
    if (index < 0 || index >= r.num_samples) return Wrong("a choice's index is out of range");
    if (seen[static_cast<size_t>(index)])
      return Wrong(absl::StrCat("choice ", index, " comes twice"));
    seen[static_cast<size_t>(index)] = true;
    auto completion = sglang  ? ReadSglangChoice(items[i])
                      : llama ? ReadLlamaCppChoice(items[i])
                              : ReadOpenAiChoice(options, items[i], r);
    RFT_RETURN_IF_ERROR(completion.status());
    if (completion->finish_reason != FinishReason::kError)
      RFT_RETURN_IF_ERROR(Check(options, r, *completion));
    completions[static_cast<size_t>(index)] = *std::move(completion);
  }
  return completions;
}

absl::StatusOr<HttpDialect> ParseHttpDialect(const std::string& name) {
  if (name == "rft") return HttpDialect::kRft;
  if (name == "vllm") return HttpDialect::kVllm;
  if (name == "sglang") return HttpDialect::kSglang;
  if (name == "llama.cpp") return HttpDialect::kLlamaCpp;
  return absl::InvalidArgumentError(
      absl::StrCat("dialect: '", name, "' is not one of rft, vllm, sglang, llama.cpp"));
}

}  // namespace rft
