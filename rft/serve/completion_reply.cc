#include "rft/serve/completion_reply.h"

#include <utility>

namespace rft::serve {
namespace {

class CompletionReply : public ReplyWriter {
 public:
  CompletionReply(ReplyContext context, EchoMode echo) : context_(std::move(context)), echo_(echo) {
    const size_t num_choices = context_.prompts.size() * static_cast<size_t>(context_.fields.n);
    for (size_t i = 0; i < num_choices; ++i)
      choices_.push_back({CompletionText(context_.codec, context_.fields.text)});
  }

  bool streams() const override { return context_.fields.stream; }

  std::string Events(int64_t index, const std::vector<TokenPiece>& tokens,
                     const Completion* finished) override {
    Choice& choice = choices_[static_cast<size_t>(index)];
    num_tokens_ += static_cast<int64_t>(tokens.size());
    const bool first = !std::exchange(choice.begun, true);
    const std::string text = TextOf(choice, index, tokens, finished);
    const bool per_token =
        context_.logprobs != LogprobStyle::kNone || context_.fields.return_token_ids;
    if (text.empty() && finished == nullptr && !(per_token && !tokens.empty())) return "";
    JsonWriter w;
    BeginReply(w, context_, "text_completion");
    WriteChoice(w, index, text, tokens, first, finished, /*streamed=*/true);
    w.EndArray();
    return EndChunk(w, context_);
  }

  std::string LastEvents() override {
    return rft::serve::LastEvents(context_, "text_completion", num_tokens_);
  }

  std::string Body(const std::vector<Completion>& completions) override {
    JsonWriter w;
    BeginReply(w, context_, "text_completion");
    for (size_t i = 0; i < completions.size(); ++i) {
      std::vector<TokenPiece> tokens;
      if (echo_ != EchoMode::kPromptOnly) tokens = PiecesOf(completions[i]);
      num_tokens_ += static_cast<int64_t>(tokens.size());
      const auto index = static_cast<int64_t>(i);
      const std::string text = TextOf(choices_[i], index, tokens, &completions[i]);
      choices_[i].begun = true;
      WriteChoice(w, index, text, tokens, /*first=*/true, &completions[i], /*streamed=*/false);
    }
    w.EndArray();
    WriteUsage(w, context_, num_tokens_);
    w.EndObject();
    return w.Take();
  }

 private:
  struct Choice {
    CompletionText text;
    int64_t offset = 0;  // characters before the next token
    bool begun = false, echoed = false;
  };

  std::string TextOf(Choice& choice, int64_t index, const std::vector<TokenPiece>& tokens,
                     const Completion* finished) {
    std::string text;
    if (echo_ != EchoMode::kNone && !std::exchange(choice.echoed, true))
      text = DecodeTokens(*context_.codec, context_.PromptOf(index));
    for (const TokenPiece& token : tokens) text += choice.text.Add(token.id);
    if (finished != nullptr)
      text += choice.text.Finish(finished->finish_reason == FinishReason::kStop);
    return text;
  }

  void WriteChoice(JsonWriter& w, int64_t index, const std::string& text,
                   const std::vector<TokenPiece>& tokens, bool first, const Completion* finished,
                   bool streamed) {
    Choice& choice = choices_[static_cast<size_t>(index)];
    w.BeginObject();
    w.Key("index");
    w.Int(index);
    w.Key("text");
    w.String(text);
    w.Key("logprobs");
    WriteLogprobs(w, index, tokens, finished, streamed);
    w.Key("finish_reason");
    if (finished == nullptr) {
      w.Null();
    } else {
      w.String(echo_ == EchoMode::kPromptOnly ? "length" : FinishReasonText(*finished));
      WriteStopReason(w, context_, *finished, choice.text.stop_string());
    }
    if (context_.fields.return_token_ids) {
      if (first) {
        w.Key("prompt_token_ids");
        WriteIds(w, context_.PromptOf(index));
      }
      w.Key("token_ids");
      w.BeginArray();
      for (const TokenPiece& token : tokens) w.Int(token.id);
      w.EndArray();
    }
    if (finished != nullptr && echo_ != EchoMode::kPromptOnly)
      WriteRolloutFields(w, context_, index, *finished);
    if (finished != nullptr && context_.fields.prompt_logprobs)
      WritePromptLogprobs(w, context_, context_.PromptOf(index), *finished);
    w.EndObject();
  }

  void WriteLogprobs(JsonWriter& w, int64_t index, const std::vector<TokenPiece>& tokens,
                     const Completion* finished, bool streamed) {
    if (context_.logprobs == LogprobStyle::kNone) return w.Null();
    const bool with_prompt = echo_ != EchoMode::kNone && finished != nullptr;  // not streamed
    std::vector<TokenPiece> echoed;
    if (with_prompt) {
      echoed = PromptPieces(context_.PromptOf(index), *finished);
      echoed.insert(echoed.end(), tokens.begin(), tokens.end());
    }
    const std::vector<TokenPiece>& all = with_prompt ? echoed : tokens;
    if (context_.logprobs == LogprobStyle::kLegacy)
      return WriteLegacyLogprobs(w, context_, all, &choices_[static_cast<size_t>(index)].offset);
    const bool partial = streamed && !context_.fields.include_routing_matrix;
    WriteContentLogprobs(w, context_, all, partial || with_prompt ? nullptr : finished);
  }

  const ReplyContext context_;
  const EchoMode echo_;
  std::vector<Choice> choices_;
  int64_t num_tokens_ = 0;
};

}  // namespace

std::unique_ptr<ReplyWriter> MakeCompletionReply(ReplyContext context, EchoMode echo) {
  return std::make_unique<CompletionReply>(std::move(context), echo);
}

}  // namespace rft::serve
