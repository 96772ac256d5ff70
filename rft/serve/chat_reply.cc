#include "rft/serve/chat_reply.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "rft/serve/tool_calls.h"

namespace rft::serve {
namespace {

class ChatReply : public ReplyWriter {
 public:
  ChatReply(ReplyContext context, ToolReply tools) : context_(std::move(context)), tools_(tools) {
    for (int32_t i = 0; i < context_.fields.n; ++i)
      choices_.push_back({CompletionText(context_.codec, context_.fields.text)});
  }

  bool streams() const override { return context_.fields.stream; }

  std::string Events(int64_t index, const Completion& news, const Completion* finished) override {
    Choice& choice = choices_[static_cast<size_t>(index)];
    num_tokens_ += static_cast<int64_t>(news.ids.size());
    const ToolCallParser::Piece piece = PieceOf(choice, news, finished);
    const bool first = !std::exchange(choice.begun, true);
    const bool per_token =
        context_.logprobs != LogprobStyle::kNone || context_.fields.return_token_ids;
    const bool has_news = !piece.content.empty() || !piece.calls.empty() || finished != nullptr ||
                          first || (per_token && !news.ids.empty());
    if (!has_news) return "";
    JsonWriter w;
    BeginReply(w, context_, "chat.completion.chunk");
    w.BeginObject();
    w.Key("index");
    w.Int(index);
    w.Key("delta");
    w.BeginObject();
    if (first) {
      w.Key("role");
      w.String("assistant");
    }
    if (first || !piece.content.empty()) {
      w.Key("content");
      w.String(piece.content);
    }
    const int64_t calls_before = choice.num_calls - static_cast<int64_t>(piece.calls.size());
    WriteCalls(w, index, calls_before, piece.calls, /*streamed=*/true);
    w.EndObject();
    WriteRest(w, index, news, finished);
    w.EndObject();
    w.EndArray();
    if (first && context_.fields.return_token_ids && !std::exchange(prompt_sent_, true)) {
      w.Key("prompt_token_ids");
      WriteIds(w, context_.prompts[0]);
    }
    if (context_.fields.prompt_logprobs && !std::exchange(prompt_scored_, true))
      WritePromptLogprobs(w, context_, context_.prompts[0], finished != nullptr ? *finished : news);
    return EndChunk(w, context_, num_tokens_);
  }

  std::string LastEvents() override {
    return rft::serve::LastEvents(context_, "chat.completion.chunk", num_tokens_);
  }

  std::string Body(const std::vector<Completion>& completions) override {
    JsonWriter w;
    BeginReply(w, context_, "chat.completion");
    for (size_t i = 0; i < completions.size(); ++i) {
      const auto index = static_cast<int64_t>(i);
      num_tokens_ += static_cast<int64_t>(completions[i].ids.size());
      const ToolCallParser::Piece piece = PieceOf(choices_[i], completions[i], &completions[i]);
      w.BeginObject();
      w.Key("index");
      w.Int(index);
      w.Key("message");
      w.BeginObject();
      w.Key("role");
      w.String("assistant");
      w.Key("content");
      if (piece.content.empty() && !piece.calls.empty())
        w.Null();
      else
        w.String(piece.content);
      WriteCalls(w, index, 0, piece.calls, /*streamed=*/false);
      w.EndObject();
      WriteRest(w, index, completions[i], &completions[i]);
      w.EndObject();
    }
    w.EndArray();
    if (context_.fields.return_token_ids) {
      w.Key("prompt_token_ids");
      WriteIds(w, context_.prompts[0]);
    }
    if (context_.fields.prompt_logprobs && !completions.empty())
      WritePromptLogprobs(w, context_, context_.prompts[0], completions[0]);
    WriteUsage(w, context_, num_tokens_);
    w.EndObject();
    return w.Take();
  }

 private:
  struct Choice {
    CompletionText text;
    ToolCallParser calls;
    int64_t num_calls = 0;
    bool begun = false;
  };

  ToolCallParser::Piece PieceOf(Choice& choice, const Completion& news,
                                const Completion* finished) const {
    std::string text;
    for (const TokenId id : news.ids) text += choice.text.Add(id);
    if (finished != nullptr)
      text += choice.text.Finish(finished->finish_reason == FinishReason::kStop);
    if (!tools_.parse) return {std::move(text), {}};
    ToolCallParser::Piece piece = choice.calls.Add(text);
    if (finished != nullptr) {
      ToolCallParser::Piece rest = choice.calls.Finish();
      piece.content += rest.content;
      piece.calls.insert(piece.calls.end(), rest.calls.begin(), rest.calls.end());
    }
    if (tools_.one_call && choice.num_calls + static_cast<int64_t>(piece.calls.size()) > 1)
      piece.calls.resize(choice.num_calls == 0 ? 1 : 0);
    choice.num_calls += static_cast<int64_t>(piece.calls.size());
    return piece;
  }

  void WriteCalls(JsonWriter& w, int64_t choice, int64_t first, const std::vector<ToolCall>& calls,
                  bool streamed) const {
    if (calls.empty()) return;
    w.Key("tool_calls");
    w.BeginArray();
    for (size_t i = 0; i < calls.size(); ++i) {
      const int64_t number = first + static_cast<int64_t>(i);
      w.BeginObject();
      if (streamed) {
        w.Key("index");
        w.Int(number);
      }
      w.Key("id");
      w.String(absl::StrCat("call_", context_.id.substr(context_.id.find('-') + 1), "_", choice,
                            "_", number));
      w.Key("type");
      w.String("function");
      w.Key("function");
      w.BeginObject();
      w.Key("name");
      w.String(calls[i].name);
      w.Key("arguments");
      w.String(calls[i].arguments);
      w.EndObject();
      w.EndObject();
    }
    w.EndArray();
  }

  // Log-probabilities, finish reason and ids.
  void WriteRest(JsonWriter& w, int64_t index, const Completion& news, const Completion* finished) {
    const Choice& choice = choices_[static_cast<size_t>(index)];
    w.Key("logprobs");
    if (context_.logprobs == LogprobStyle::kContent)
      WriteContentLogprobs(w, context_, {&news});
    else
      w.Null();
    w.Key("finish_reason");
    if (finished == nullptr) {
      w.Null();
    } else {
      const bool called = choice.num_calls > 0 && finished->finish_reason == FinishReason::kStop;
      w.String(called ? "tool_calls" : FinishReasonText(*finished));
      WriteStopReason(w, context_, *finished, choice.text.stop_string());
    }
    if (context_.fields.return_token_ids) {
      w.Key("token_ids");
      WriteIds(w, news.ids);
    }
    if (finished != nullptr) WriteRolloutFields(w, context_, index, *finished);
  }

  const ReplyContext context_;
  const ToolReply tools_;
  std::vector<Choice> choices_;
  int64_t num_tokens_ = 0;
  bool prompt_sent_ = false, prompt_scored_ = false;
};

}  // namespace

std::unique_ptr<ReplyWriter> MakeChatReply(ReplyContext context, ToolReply tools) {
  return std::make_unique<ChatReply>(std::move(context), tools);
}

}  // namespace rft::serve
