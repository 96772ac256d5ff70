#include "rft/serve/reply_parts.h"

#include <algorithm>
#include <cmath>
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

// Calls write(run, t) for each token.
template <typename Write>
void ForEachToken(const TokenRuns& runs, Write&& write) {
  for (const Completion* run : runs)
    for (size_t t = 0; t < run->ids.size(); ++t) write(*run, t);
}

const std::vector<TokenLogprob>& TopOf(const Completion& run, size_t t) {
  static const std::vector<TokenLogprob> kNone;
  return run.top_logprobs.empty() ? kNone : run.top_logprobs[t];
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
    std::vector<TokenId> ids;
    if (context.fields.want_prompt) ids = context.PromptOf(choice);  // as many as logprobs.content
    ids.insert(ids.end(), completion.ids.begin(), completion.ids.end());
    WriteIds(w, ids);
    w.Key("prompt_token_ids");
    WriteIds(w, context.PromptOf(choice));
    w.EndObject();
  }
}

void WriteContentLogprobs(JsonWriter& w, const ReplyContext& context, const TokenRuns& runs) {
  w.BeginObject();
  w.Key("content");
  w.BeginArray();
  ForEachToken(runs, [&](const Completion& run, size_t t) {
    w.BeginObject();
    WriteTokenAndLogprob(w, context, {run.ids[t], run.logprobs[t]});
    w.Key("top_logprobs");
    w.BeginArray();
    for (const TokenLogprob& other : TopOf(run, t)) WriteAlternative(w, context, other);
    w.EndArray();
    w.Key("token_id");
    w.Int(run.ids[t]);
    w.Key("sampling_logprob");
    if (run.sampling_logprobs.empty())
      w.Null();
    else
      w.Float(std::max(run.sampling_logprobs[t], kLeastLogprob));
    const bool predicted = !std::isnan(run.logprobs[t]);  // not so a prompt's first token
    if (!run.routes.empty() && predicted) {
      w.Key("routing_matrix");
      w.String(context.routes.ToWire(run.routes.data() + run.routes.size() / run.ids.size() * t));
    }
    w.EndObject();
  });
  w.EndArray();
  w.EndObject();
}

void WriteLegacyLogprobs(JsonWriter& w, const ReplyContext& context, const TokenRuns& runs,
                         int64_t* offset) {
  w.BeginObject();
  w.Key("tokens");
  w.BeginArray();
  ForEachToken(runs,
               [&](const Completion& run, size_t t) { WriteTokenText(w, context, run.ids[t]); });
  w.EndArray();
  w.Key("token_logprobs");
  w.BeginArray();
  ForEachToken(runs, [&](const Completion& run, size_t t) {
    w.Float(std::max(run.logprobs[t], kLeastLogprob));
  });
  w.EndArray();
  w.Key("top_logprobs");
  if (context.fields.sampling.num_top_logprobs == 0) {
    w.Null();
  } else {
    w.BeginArray();
    ForEachToken(
        runs, [&](const Completion& run, size_t t) { WriteTopByText(w, context, TopOf(run, t)); });
    w.EndArray();
  }
  w.Key("text_offset");
  w.BeginArray();
  ForEachToken(runs, [&](const Completion& run, size_t t) {
    w.Int(*offset);
    *offset += CountCharacters(TokenBytes(*context.codec, run.ids[t]));
  });
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

Completion PromptRun(const std::vector<TokenId>& prompt, const Completion& completion) {
  Completion run;
  run.ids = prompt;
  run.logprobs = completion.prompt_logprobs;
  run.logprobs.resize(prompt.size(), std::numeric_limits<float>::quiet_NaN());
  run.top_logprobs = completion.prompt_top_logprobs;
  run.routes = completion.prompt_routes;
  return run;
}

void WritePromptLogprobs(JsonWriter& w, const ReplyContext& context,
                         const std::vector<TokenId>& prompt, const Completion& completion) {
  w.Key("prompt_logprobs");
  w.BeginArray();
  w.Null();  // nothing comes before the first
  const Completion run = PromptRun(prompt, completion);
  for (size_t t = 1; t < prompt.size(); ++t) {
    std::vector<TokenLogprob> entries = {{run.ids[t], run.logprobs[t]}};
    for (const TokenLogprob& other : TopOf(run, t))
      if (other.id != run.ids[t]) entries.push_back(other);
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

std::string EndChunk(JsonWriter& w, const ReplyContext& context, int64_t completion_tokens) {
  if (context.fields.continuous_usage) {
    WriteUsage(w, context, completion_tokens);
  } else if (context.fields.include_usage) {
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
