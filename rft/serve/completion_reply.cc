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

  std::string Events(int64_t index, const Completion& news, const Completion* finished) override {
    const bool echoes = echo_ != EchoMode::kNone && !choices_[static_cast<size_t>(index)].begun;
    const Part part = PartOf(index, news, finished);
    const bool per_token =
        context_.logprobs != LogprobStyle::kNone || context_.fields.return_token_ids;
    const bool has_tokens = echoes || !part.tokens->ids.empty();
    if (part.text.empty() && finished == nullptr && !(per_token && has_tokens)) return "";
    JsonWriter w;
    BeginReply(w, context_, "text_completion");
    WriteChoice(w, index, part, finished);
    w.EndArray();
    return EndChunk(w, context_, num_tokens_);
  }

  std::string LastEvents() override {
    return rft::serve::LastEvents(context_, "text_completion", num_tokens_);
  }

  std::string Body(const std::vector<Completion>& completions) override {
    JsonWriter w;
    BeginReply(w, context_, "text_completion");
    for (size_t i = 0; i < completions.size(); ++i) {
      const auto index = static_cast<int64_t>(i);
      WriteChoice(w, index, PartOf(index, completions[i], &completions[i]), &completions[i]);
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
    bool begun = false;
  };
  // What one reply or event tells of a choice.
  struct Part {
    bool first;
    std::string text;
    const Completion* tokens;
    const Completion* prompt;  // knows its log-probabilities; null unless they are echoed here
  };

  Part PartOf(int64_t index, const Completion& news, const Completion* finished) {
    static const Completion kNothing;
    Choice& choice = choices_[static_cast<size_t>(index)];
    const bool first = !std::exchange(choice.begun, true);
    const bool echoes = first && echo_ != EchoMode::kNone;
    Part part{first, "", echo_ == EchoMode::kPromptOnly ? &kNothing : &news, nullptr};
    if (echoes) {
      if (context_.fields.text->detokenize)
        part.text = DecodeTokens(*context_.codec, context_.PromptOf(index));
      part.prompt = finished != nullptr ? finished : &news;
    }
    for (const TokenId id : part.tokens->ids) part.text += choice.text.Add(id);
    if (finished != nullptr)
      part.text += choice.text.Finish(finished->finish_reason == FinishReason::kStop);
    num_tokens_ += static_cast<int64_t>(part.tokens->ids.size());
    return part;
  }

  void WriteChoice(JsonWriter& w, int64_t index, const Part& part, const Completion* finished) {
    Choice& choice = choices_[static_cast<size_t>(index)];
    w.BeginObject();
    w.Key("index");
    w.Int(index);
    w.Key("text");
    w.String(part.text);
    w.Key("logprobs");
    WriteLogprobs(w, index, part);
    w.Key("finish_reason");
    if (finished == nullptr) {
      w.Null();
    } else {
      w.String(echo_ == EchoMode::kPromptOnly ? "length" : FinishReasonText(*finished));
      WriteStopReason(w, context_, *finished, choice.text.stop_string());
    }
    if (context_.fields.return_token_ids) {
      if (part.first) {
        w.Key("prompt_token_ids");
        WriteIds(w, context_.PromptOf(index));
      }
      w.Key("token_ids");
      WriteIds(w, part.tokens->ids);
    }
    if (finished != nullptr && echo_ != EchoMode::kPromptOnly)
      WriteRolloutFields(w, context_, index, *finished);
    if (finished != nullptr && context_.fields.prompt_logprobs)
      WritePromptLogprobs(w, context_, context_.PromptOf(index), *finished);
    w.EndObject();
  }

  void WriteLogprobs(JsonWriter& w, int64_t index, const Part& part) {
    Completion prompt;
    TokenRuns runs;
    if (part.prompt != nullptr && context_.logprobs != LogprobStyle::kNone) {
      prompt = PromptRun(context_.PromptOf(index), *part.prompt);
      runs.push_back(&prompt);
    }
    runs.push_back(part.tokens);
    if (context_.logprobs == LogprobStyle::kNone)
      w.Null();
    else if (context_.logprobs == LogprobStyle::kLegacy)
      WriteLegacyLogprobs(w, context_, runs, &choices_[static_cast<size_t>(index)].offset);
    else
      WriteContentLogprobs(w, context_, runs);
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
