// Replies of each kind of server.
#include "rft/remote/http_dialect.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "rft/core/status_macros.h"
#include "rft/io/json.h"
#include "rft/remote/reply_values.h"

namespace rft {
namespace {

bool SamplesPlainly(const GenerateRequest& r) {
  const SamplingParams& s = r.sampling;
  return r.grammar == nullptr && s.temperature == 1.0 && s.top_k == 0 && s.top_p == 1.0 &&
         s.min_p == 0.0 && !s.ChangesLogits();
}

absl::StatusOr<FinishReason> ReadFinishReason(const json::value* value) {
  if (value == nullptr || !value->is_string()) return WrongReply("no finish_reason");
  const json::string& text = value->get_string();
  if (text == "stop" || text == "tool_calls") return FinishReason::kStop;
  if (text == "length") return FinishReason::kLength;
  if (text == "abort") return FinishReason::kCancelled;
  return WrongReply(
      absl::StrCat("finish_reason is '", std::string(text.c_str()).substr(0, 40), "'"));
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
    if (!bytes.ok()) return WrongReply(absl::StrCat("routing_matrix: ", bytes.status().message()));
    packed.insert(packed.end(), bytes->begin(), bytes->end());
  }
  return packed;
}

// An echo begins with the prompt's tokens: they are taken off `content`, and their experts kept. Nothing predicted the first.
absl::Status TakePrompt(const HttpEngineOptions& options, const GenerateRequest& r,
                        json::array* content, Completion* c) {
  const size_t length = r.prompt.size();
  if (content->size() < length)
    return WrongReply("logprobs.content does not begin with the prompt");
  const json::array prompt(content->begin(), content->begin() + static_cast<int64_t>(length));
  for (size_t i = 0; i < length; ++i) {
    const json::value* id = Member(prompt[i], "token_id");
    if (id == nullptr || IdOf(*id) != r.prompt[i])
      return WrongReply("logprobs.content does not begin with the prompt");
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
    RFT_RETURN_IF_ERROR(ReadContent(entries, r.sampling.num_top_logprobs, c));
  } else if (const json::value* tokens = Member(*logprobs, "tokens")) {
    RFT_ASSIGN_OR_RETURN(c.ids, ReadTokenTexts(*tokens));
    const json::value* values = Member(*logprobs, "token_logprobs");
    RFT_ASSIGN_OR_RETURN(c.logprobs,
                         ReadFloats(values ? *values : json::value(), "token_logprobs"));
    if (r.sampling.num_top_logprobs > 0)
      RFT_RETURN_IF_ERROR(ReadAlternativeList(Member(*logprobs, "top_logprobs"), 0,
                                              r.sampling.num_top_logprobs, c.top_logprobs));
  } else {
    return absl::UnimplementedError("the server gives no log-probabilities");
  }
  if (const json::value* ids = Member(choice, "token_ids")) {
    RFT_ASSIGN_OR_RETURN(const std::vector<TokenId> again, ReadIdArray(*ids));
    if (again != c.ids) return WrongReply("token_ids and logprobs are of different tokens");
  }
  if (const json::value* prompt = Member(choice, "prompt_token_ids")) {
    RFT_ASSIGN_OR_RETURN(const std::vector<TokenId> echoed, ReadIdArray(*prompt));
    if (echoed != r.prompt) return WrongReply("it answers another prompt");
  }
  if (r.want_prompt_logprobs) {
    const json::value* prompt = Member(choice, "prompt_logprobs");
    if (prompt == nullptr)
      return absl::UnimplementedError("the server gives no log-probabilities of the prompt");
    RFT_RETURN_IF_ERROR(ReadPromptLogprobs(*prompt, r.prompt, r.num_prompt_top_logprobs, c));
  }
  if (const json::value* sampling = Member(choice, "sampling_logprobs")) {
    RFT_ASSIGN_OR_RETURN(c.sampling_logprobs, ReadFloats(*sampling, "sampling_logprobs"));
  }
  if (const json::value* versions = Member(choice, "weight_versions")) {
    if (!versions->is_array()) return WrongReply("weight_versions is no list");
    for (const json::value& version : versions->get_array()) {
      if (!version.is_int64()) return WrongReply("a weight version is no whole number");
      c.versions.push_back(version.get_int64());
    }
  }
  return c;
}

// [[logprob, id, text or null], ...], as SGLang has them: ids of all, log-probabilities from `first` on.
absl::Status ReadPairs(const json::value* value, size_t first, const char* what,
                       std::vector<TokenId>& ids, std::vector<float>& logprobs) {
  if (value == nullptr || !value->is_array())
    return absl::UnimplementedError(absl::StrCat("the server gives no ", what));
  json::array all_ids, rest;
  for (const json::value& pair : value->get_array()) {
    if (!pair.is_array() || pair.get_array().size() < 2) return WrongReply(what);
    all_ids.push_back(pair.get_array()[1]);
    if (all_ids.size() > first) rest.push_back(pair.get_array()[0]);
  }
  RFT_ASSIGN_OR_RETURN(ids, ReadIdArray(all_ids));
  RFT_ASSIGN_OR_RETURN(const std::vector<float> numbers, ReadFloats(rest, what));
  logprobs.insert(logprobs.end(), numbers.begin(), numbers.end());
  return absl::OkStatus();
}

absl::StatusOr<Completion> ReadSglangChoice(const json::value& choice, const GenerateRequest& r) {
  Completion c;
  const json::value* meta = Member(choice, "meta_info");
  if (meta == nullptr) return absl::UnimplementedError("the server gives no log-probabilities");
  RFT_RETURN_IF_ERROR(ReadPairs(Member(*meta, "output_token_logprobs"), 0, "output_token_logprobs",
                                c.ids, c.logprobs));
  if (r.sampling.num_top_logprobs > 0)
    RFT_RETURN_IF_ERROR(ReadAlternativeList(Member(*meta, "output_top_logprobs"), 0,
                                            r.sampling.num_top_logprobs, c.top_logprobs));
  if (r.want_prompt_logprobs) {
    std::vector<TokenId> prompt;
    c.prompt_logprobs.assign(1, std::numeric_limits<float>::quiet_NaN());
    RFT_RETURN_IF_ERROR(ReadPairs(Member(*meta, "input_token_logprobs"), 1, "input_token_logprobs",
                                  prompt, c.prompt_logprobs));
    if (prompt != r.prompt) return WrongReply("input_token_logprobs are of another prompt");
    if (r.num_prompt_top_logprobs > 0)
      RFT_RETURN_IF_ERROR(ReadAlternativeList(Member(*meta, "input_top_logprobs"), 1,
                                              r.num_prompt_top_logprobs, c.prompt_top_logprobs));
  }
  const json::value* reason = Member(*meta, "finish_reason");
  RFT_ASSIGN_OR_RETURN(c.finish_reason,
                       ReadFinishReason(reason ? Member(*reason, "type") : nullptr));
  if (const json::value* again = Member(choice, "output_ids")) {
    RFT_ASSIGN_OR_RETURN(const std::vector<TokenId> output, ReadIdArray(*again));
    if (output != c.ids)
      return WrongReply("output_ids and output_token_logprobs are of different tokens");
  }
  return c;
}

// llama.cpp's server leaves tokens out of its log-probabilities that end within a character (UTF-8), and those of a stop string.
absl::StatusOr<Completion> ReadLlamaCppChoice(const json::value& choice, const GenerateRequest& r) {
  const json::value *tokens = Member(choice, "tokens"),
                    *content = Member(choice, "completion_probabilities"),
                    *stop = Member(choice, "stop_type");
  if (tokens == nullptr) return absl::UnimplementedError("the server gives no token ids");
  if (content == nullptr) return absl::UnimplementedError("the server gives no log-probabilities");
  if (stop == nullptr || (*stop != "eos" && *stop != "word" && *stop != "limit"))
    return WrongReply("no stop_type");
  Completion c;
  RFT_RETURN_IF_ERROR(ReadContent(*content, r.sampling.num_top_logprobs, c));
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

absl::Status CheckId(const HttpEngineOptions& options, TokenId id) {
  if (options.vocab_size == 0 || id < options.vocab_size) return absl::OkStatus();
  return WrongReply(
      absl::StrCat("token ", id, " is outside the vocabulary of ", options.vocab_size));
}

absl::Status Check(const HttpEngineOptions& options, const GenerateRequest& r, Completion& c) {
  const size_t count = c.ids.size();
  if (count > static_cast<size_t>(r.sampling.max_tokens))
    return WrongReply(
        absl::StrCat(count, " tokens where at most ", r.sampling.max_tokens, " were asked for"));
  if (count == 0 && c.finish_reason != FinishReason::kCancelled && r.grammar == nullptr)
    return WrongReply("a completion without tokens");
  if (c.finish_reason == FinishReason::kLength &&
      count < static_cast<size_t>(r.sampling.max_tokens))
    return WrongReply(absl::StrCat("finish_reason is length after ", count, " of ",
                                   r.sampling.max_tokens, " tokens"));
  if (c.logprobs.size() != count)
    return WrongReply(
        absl::StrCat(count, " tokens with ", c.logprobs.size(), " log-probabilities"));
  for (const TokenId id : c.ids) RFT_RETURN_IF_ERROR(CheckId(options, id));
  for (const auto* alternatives : {&c.top_logprobs, &c.prompt_top_logprobs})
    for (const std::vector<TokenLogprob>& top : *alternatives)
      for (const TokenLogprob& t : top) RFT_RETURN_IF_ERROR(CheckId(options, t.id));
  const size_t num_top = r.sampling.num_top_logprobs > 0 ? count : 0;
  if (c.top_logprobs.size() != num_top)
    return WrongReply(absl::StrCat(count, " tokens with alternatives of ", c.top_logprobs.size()));
  if (r.want_prompt_logprobs && c.prompt_logprobs.size() != r.prompt.size())
    return WrongReply("log-probabilities of the prompt have another length than it");
  if (c.sampling_logprobs.empty()) {
    if (r.sampling.temperature == 0.0)
      c.sampling_logprobs.assign(count, 0.0f);  // the only token that could be drawn
    else if (SamplesPlainly(r))
      c.sampling_logprobs = c.logprobs;
    else
      return absl::UnimplementedError(
          "the server does not give the log-probabilities of the distribution sampled from; use "
          "temperature 1 without top_p, top_k, min_p and grammar, or temperature 0");
  }
  if (c.sampling_logprobs.size() != count)
    return WrongReply("sampling_logprobs has another length than the tokens");
  if (!c.versions.empty() && c.versions.size() != count)
    return WrongReply("weight_versions has another length than the tokens");
  if (WantsRoutes(options, r) && c.routes.empty() && count > 0)
    return absl::UnimplementedError(
        "the server gives no routing_matrix; set trainer.routing_replay to old-policy or off");
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::vector<Completion>> ReadReply(const HttpEngineOptions& options,
                                                  const GenerateRequest& r,
                                                  const std::string& body) {
  JsonLimits limits;
  limits.max_bytes = options.max_response_bytes;
  const auto reply = ParseJson(body, limits);
  if (!reply.ok()) return WrongReply(absl::StrCat("not JSON: ", reply.status().message()));
  const bool sglang = options.dialect == HttpDialect::kSglang,
             llama = options.dialect == HttpDialect::kLlamaCpp, bare = sglang || llama;
  const json::value* choices = bare ? &*reply : Member(*reply, "choices");
  const json::array one = choices ? json::array{*choices} : json::array();
  if (choices == nullptr || (!choices->is_array() && !bare)) return WrongReply("no choices");
  const json::array& items = choices->is_array() ? choices->get_array() : one;
  if (items.size() != static_cast<size_t>(r.num_samples))
    return WrongReply(
        absl::StrCat(items.size(), " choices where ", r.num_samples, " were asked for"));
  std::vector<Completion> completions(items.size());
  std::vector<bool> seen(items.size());
  for (size_t i = 0; i < items.size(); ++i) {
    int64_t index = static_cast<int64_t>(i);
    if (const json::value* given = Member(items[i], "index"))  // in any order
      index = given->is_int64() ? given->get_int64() : -1;
    if (index < 0 || index >= r.num_samples) return WrongReply("a choice's index is out of range");
    if (seen[static_cast<size_t>(index)])
      return WrongReply(absl::StrCat("choice ", index, " comes twice"));
    seen[static_cast<size_t>(index)] = true;
    auto completion = sglang  ? ReadSglangChoice(items[i], r)
                      : llama ? ReadLlamaCppChoice(items[i], r)
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
