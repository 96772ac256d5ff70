// Values of a server's reply, none of which is believed. Pure functions; private to rft/remote.
// Errors: kDataLoss says what is wrong; kUnimplemented: the server does not give what is needed.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "rft/api/inference_engine.h"
#include "rft/io/json.h"

namespace rft {

absl::Status WrongReply(const std::string& what);

// The member, unless it is missing or null or `value` is no object.
const json::value* Member(const json::value& value, const char* key);

std::optional<TokenId> IdOf(const json::value& value);
absl::StatusOr<std::vector<TokenId>> ReadIdArray(const json::value& value);

// Log-probabilities: finite, and greater than 0 by no more than rounding.
absl::StatusOr<std::vector<float>> ReadFloats(const json::value& value, const char* what);

// ["token_id:42", ...]
absl::StatusOr<std::vector<TokenId>> ReadTokenTexts(const json::value& tokens);

// [{"logprob", "token_id" or "id", "top_logprobs": [...]}], as Fireworks, rft and llama.cpp write it: ids, logprobs and, with
// `num_top` > 0, top_logprobs of `c`.
absl::Status ReadContent(const json::value& content, int32_t num_top, Completion& c);

// One position's alternatives, most likely first: {"token_id:42": -0.1, ...}, [{"id", "logprob"}, ...] or [[-0.1, 42, text], ...].
// Of more than `num` (vLLM adds the token drawn) the most likely; fewer are an error.
absl::StatusOr<std::vector<TokenLogprob>> ReadAlternatives(const json::value& value, int32_t num);

// One such list for each token; null is allowed for those before `first`. Appends to `top`. kUnimplemented: value is null.
absl::Status ReadAlternativeList(const json::value* value, size_t first, int32_t num,
                                 std::vector<std::vector<TokenLogprob>>& top);

// vLLM's [null, {"42": {"logprob": -0.1}, ...}, ...]: log-probability of each of the prompt's tokens, and `num_top` alternatives.
absl::Status ReadPromptLogprobs(const json::value& value, const std::vector<TokenId>& prompt,
                                int32_t num_top, Completion& c);

}  // namespace rft
