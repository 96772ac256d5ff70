#include "rft/serve/reply_parts.h"

#include <algorithm>
#include <limits>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "rft/core/text.h"

namespace rft::serve {
namespace {

constexpr float kLeastLogprob = -9999.0f;  // JSON has no infinities; OpenAI's stand-in

std::string TokenText(const ReplyContext& context, TokenId id) {
  if (context.fields.tokens_as_ids) return absl::StrCat("token_id:", id);
  return ReplaceInvalidUtf8(TokenBytes(*context.codec, id));
}

void WriteTokenText(JsonWriter& w, const ReplyContext& context, TokenId id) {
  w.String(TokenText(context, id));
}

// The members "token", "logprob" and "bytes".
void WriteTokenAndLogprob(JsonWriter& w, const ReplyContext& context, const TokenLogprob& token) {
  w.Key("token");
  WriteTokenText(w, context, token.id);
  w.Key("logprob");
  w.Float(std::max(token.logprob, kLeastLogprob));
  w.Key("bytes");
  w.BeginArray();
  for (const char c : TokenBytes(*context.codec, token.id)) w.Int(static_cast<unsigned char>(c));
  w.EndArray();
}

void WriteAlternative(JsonWriter& w, const ReplyContext& context, const TokenLogprob& token) {
  w.BeginObject();
  WriteTokenAndLogprob(w, context, token);
  w.Key("token_id");
  w.Int(token.id);
  w.EndObject();
}

// {" the": -0.1, ...}; null where nothing is known (the first token of a prompt). Of two tokens with one text the more likely.
void WriteTopByText(JsonWriter& w, const ReplyContext& context,
                    const std::vector<TokenLogprob>& top) {
  if (top.empty()) return w.Null();
  std::set<std::string> written;
  w.BeginObject();
  for (const TokenLogprob& token : top) {
    const std::string text = TokenText(context, token.id);
    if (!written.insert(text).second) continue;
    w.Key(text);
    w.Float(std::max(token.logprob, kLeastLogprob));
  }
  w.EndObject();
}

// Entry i of `count` packed ones; null where there are none.
const uint8_t* RouteOf(const std::vector<uint8_t>& packed, size_t i, size_t count) {
  return packed.empty() ? nullptr : packed.data() + packed.size() / count * i;
}

int64_t CountCharacters(std::string_view bytes) {
  return std::count_if(bytes.begin(), bytes.end(),
                       [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; });
}

}  // namespace

void BeginReply(JsonWriter& w, const ReplyContext& context, const char* object) {
  w.BeginObject();
  w.Key("id");
  w.String(context.id);
  w.Key("object");
  w.String(object);
  w.Key("created");
  w.Int(context.created);
  w.Key("model");
  w.String(context.model);
  w.Key("choices");
  w.BeginArray();
}

void WriteUsage(JsonWriter& w, const ReplyContext& context, int64_t completion_tokens) {
  int64_t prompt_tokens = 0;
  for (const auto& prompt : context.prompts) prompt_tokens += static_cast<int64_t>(prompt.size());
  w.Key("usage");
  w.BeginObject();
  w.Key("prompt_tokens");
  w.Int(prompt_tokens);
  w.Key("completion_tokens");
  w.Int(completion_tokens);
  w.Key("total_tokens");
  w.Int(prompt_tokens + completion_tokens);
  w.EndObject();
}

void WriteIds(JsonWriter& w, const std::vector<TokenId>& ids) {
  w.BeginArray();
  for (const TokenId id : ids) w.Int(id);
  w.EndArray();
}

void WriteRolloutFields(JsonWriter& w, const ReplyContext& context, int64_t choice,
                        const Completion& completion) {
  if (context.fields.return_token_ids) {
    w.Key("sampling_logprobs");
    w.BeginArray();
    for (const float value : completion.sampling_logprobs) w.Float(std::max(value, kLeastLogprob));
    w.EndArray();
    w.Key("weight_versions");
    w.BeginArray();
    for (const int64_t version : completion.versions) w.Int(version);
    w.EndArray();
  }
  if (context.fields.raw_output) {
    w.Key("raw_output");
    w.BeginObject();
    w.Key("completion_token_ids");
    WriteIds(w, completion.ids);
    w.Key("prompt_token_ids");
    WriteIds(w, context.PromptOf(choice));
    w.EndObject();
  }
}

void WriteContentLogprobs(JsonWriter& w, const ReplyContext& context,
                          const std::vector<TokenPiece>& tokens, const Completion* completion) {
  w.BeginObject();
  w.Key("content");
  w.BeginArray();
  for (size_t i = 0; i < tokens.size(); ++i) {
    const TokenPiece& token = tokens[i];
    w.BeginObject();
    WriteTokenAndLogprob(w, context, {token.id, token.logprob});
    w.Key("top_logprobs");
    w.BeginArray();
    for (const TokenLogprob& other : token.top) WriteAlternative(w, context, other);
    w.EndArray();
    w.Key("token_id");
    w.Int(token.id);
    if (completion != nullptr) {
      w.Key("sampling_logprob");
      w.Float(std::max(completion->sampling_logprobs[i], kLeastLogprob));
    }
    if (token.route != nullptr) {
      w.Key("routing_matrix");
      w.String(context.routes.ToWire(token.route));
    }
    w.EndObject();
  }
  w.EndArray();
  w.EndObject();
}

void WriteLegacyLogprobs(JsonWriter& w, const ReplyContext& context,
                         const std::vector<TokenPiece>& tokens, int64_t* offset) {
  w.BeginObject();
  w.Key("tokens");
  w.BeginArray();
  for (const TokenPiece& token : tokens) WriteTokenText(w, context, token.id);
  w.EndArray();
  w.Key("token_logprobs");
  w.BeginArray();
  for (const TokenPiece& token : tokens) w.Float(std::max(token.logprob, kLeastLogprob));
  w.EndArray();
  w.Key("top_logprobs");
  if (context.fields.sampling.num_top_logprobs == 0) {
    w.Null();
  } else {
    w.BeginArray();
    for (const TokenPiece& token : tokens) WriteTopByText(w, context, token.top);
    w.EndArray();
  }
  w.Key("text_offset");
  w.BeginArray();
  for (const TokenPiece& token : tokens) {
    w.Int(*offset);
    *offset += CountCharacters(TokenBytes(*context.codec, token.id));
  }
  w.EndArray();
  w.EndObject();
}

const char* FinishReasonText(const Completion& completion) {
  return completion.finish_reason == FinishReason::kCancelled
             ? "abort"
             : FinishReasonName(completion.finish_reason);
}

void WriteStopReason(JsonWriter& w, const ReplyContext& context, const Completion& completion,
                     const std::string& stop_string) {
  w.Key("stop_reason");
  const auto& stop_ids = context.fields.sampling.stop_ids;
  const bool by_id =
      completion.finish_reason == FinishReason::kStop && !completion.ids.empty() &&
      std::find(stop_ids.begin(), stop_ids.end(), completion.ids.back()) != stop_ids.end();
  if (!stop_string.empty())
    w.String(stop_string);
  else if (by_id)
    w.Int(completion.ids.back());
  else
    w.Null();
}

std::vector<TokenPiece> PiecesOf(const Completion& completion) {
  std::vector<TokenPiece> pieces(completion.ids.size());
  for (size_t i = 0; i < pieces.size(); ++i) {
    pieces[i] = {completion.ids[i], completion.logprobs[i], {}};
    if (!completion.top_logprobs.empty()) pieces[i].top = completion.top_logprobs[i];
    pieces[i].route = RouteOf(completion.routes, i, pieces.size());
  }
  return pieces;
}

std::vector<TokenPiece> PromptPieces(const std::vector<TokenId>& prompt,
                                     const Completion& completion) {
  std::vector<TokenPiece> pieces(prompt.size());
  for (size_t i = 0; i < pieces.size(); ++i) {
    pieces[i].id = prompt[i];
    pieces[i].logprob = i < completion.prompt_logprobs.size()
                            ? completion.prompt_logprobs[i]
                            : std::numeric_limits<float>::quiet_NaN();
    if (i < completion.prompt_top_logprobs.size())
      pieces[i].top = completion.prompt_top_logprobs[i];
    if (i > 0) pieces[i].route = RouteOf(completion.prompt_routes, i, pieces.size());
  }
  return pieces;
}

void WritePromptLogprobs(JsonWriter& w, const ReplyContext& context,
                         const std::vector<TokenId>& prompt, const Completion& completion) {
  w.Key("prompt_logprobs");
  w.BeginArray();
  const std::vector<TokenPiece> pieces = PromptPieces(prompt, completion);
  for (size_t i = 0; i < pieces.size(); ++i) {
    if (i == 0) {
      w.Null();  // nothing comes before it
      continue;
    }
    std::vector<TokenLogprob> entries = {{pieces[i].id, pieces[i].logprob}};
    for (const TokenLogprob& other : pieces[i].top)
      if (other.id != pieces[i].id) entries.push_back(other);
    w.BeginObject();
    for (const TokenLogprob& entry : entries) {
      w.Key(absl::StrCat(entry.id));
      w.BeginObject();
      w.Key("logprob");
      w.Float(std::max(entry.logprob, kLeastLogprob));
      w.Key("decoded_token");
      WriteTokenText(w, context, entry.id);
      w.EndObject();
    }
    w.EndObject();
  }
  w.EndArray();
}

std::string EventOf(std::string json) { return absl::StrCat("data: ", json, "\n\n"); }

std::string EndChunk(JsonWriter& w, const ReplyContext& context) {
  if (context.fields.include_usage) {
    w.Key("usage");
    w.Null();
  }
  w.EndObject();
  return EventOf(w.Take());
}

std::string LastEvents(const ReplyContext& context, const char* object, int64_t completion_tokens) {
  if (!context.fields.include_usage) return "data: [DONE]\n\n";
  JsonWriter w;
  BeginReply(w, context, object);
  w.EndArray();
  WriteUsage(w, context, completion_tokens);
  w.EndObject();
  return EventOf(w.Take()) + "data: [DONE]\n\n";
}

}  // namespace rft::serve
