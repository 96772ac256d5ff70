// What the replies of both generation endpoints are made of.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "rft/core/json_writer.h"
#include "rft/core/routes.h"
#include "rft/serve/generation_fields.h"
#include "rft/serve/generation_job.h"

namespace rft::serve {

enum class LogprobStyle { kNone, kLegacy, kContent };  // kLegacy: {tokens, token_logprobs, ...}

// One request's constants.
struct ReplyContext {
  std::string id;       // "cmpl-..."
  std::string model;    // as the reply names it
  int64_t created = 0;  // Unix seconds
  GenerationFields fields;
  LogprobStyle logprobs = LogprobStyle::kNone;
  std::shared_ptr<const TextCodec> codec;
  std::vector<std::vector<TokenId>> prompts;
  RouteCodec routes;  // of the model; a dense one has no bytes per token

  const std::vector<TokenId>& PromptOf(int64_t choice) const {
    return prompts[static_cast<size_t>(choice / fields.n)];
  }
};

// {"id": ..., "object": ..., "created": ..., "model": ..., "choices": [     (the writer is left inside)
void BeginReply(JsonWriter& w, const ReplyContext& context, const char* object);
// "usage": {...}
void WriteUsage(JsonWriter& w, const ReplyContext& context, int64_t completion_tokens);
void WriteIds(JsonWriter& w, const std::vector<TokenId>& ids);
// "sampling_logprobs", "weight_versions", and "raw_output" if asked for.
void WriteRolloutFields(JsonWriter& w, const ReplyContext& context, int64_t choice,
                        const Completion& completion);
// Tokens of which a reply tells the log-probabilities: an echoed prompt, a completion or a piece of one.
using TokenRuns = std::vector<const Completion*>;
// {"content": [{token, logprob, bytes, top_logprobs, token_id, sampling_logprob, routing_matrix}]}; sampling_logprob is null
// for tokens that were not sampled, routing_matrix there where routes were asked for.
void WriteContentLogprobs(JsonWriter& w, const ReplyContext& context, const TokenRuns& runs);
// {"tokens", "token_logprobs", "top_logprobs", "text_offset"}; `offset`: characters before these tokens, moved on.
void WriteLegacyLogprobs(JsonWriter& w, const ReplyContext& context, const TokenRuns& runs,
                         int64_t* offset);

// "stop", "length", "abort"
const char* FinishReasonText(const Completion& completion);
// What stopped it: the text, the token id, or null.
void WriteStopReason(JsonWriter& w, const ReplyContext& context, const Completion& completion,
                     const std::string& stop_string);
// The prompt's tokens with what `completion` knows of them; log-probability NaN (null in JSON) where that is nothing.
Completion PromptRun(const std::vector<TokenId>& prompt, const Completion& completion);
// "prompt_logprobs": [null, {"42": {"logprob", "decoded_token"}, ...}, ...], as vLLM has it.
void WritePromptLogprobs(JsonWriter& w, const ReplyContext& context,
                         const std::vector<TokenId>& prompt, const Completion& completion);
std::string EventOf(std::string json);
// Ends a streamed chunk whose choices are closed: "usage" (if it was asked for) is null until the last one, or
// (continuous_usage_stats) that of the tokens so far.
std::string EndChunk(JsonWriter& w, const ReplyContext& context, int64_t completion_tokens);
// What ends a stream: the usage, if it was asked for, then [DONE].
std::string LastEvents(const ReplyContext& context, const char* object, int64_t completion_tokens);

}  // namespace rft::serve
