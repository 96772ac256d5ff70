// The JSON of a chat completion as graders that ask a judge write and read it (model_judge.cc, chat_generator.cc).
// Pure; any thread.
#pragma once

#include <string>
#include <string_view>

#include <boost/json.hpp>

#include "absl/status/statusor.h"
#include "rft/api/text_generator.h"

namespace rft {

// "http://127.0.0.1:8000/v1/" -> "http://127.0.0.1:8000/v1/chat/completions".
std::string ChatUrl(std::string base_url);

// {"role": ..., "content": ...}. Bytes that are not UTF-8 become U+FFFD.
boost::json::object ChatMessage(std::string_view role, std::string_view content);

// A `response_format` that holds the model to the schema.
boost::json::object StrictFormat(boost::json::value schema);

// The first choice. kDataLoss: the body is something else, or a refusal.
absl::StatusOr<GeneratedText> ReadChatCompletion(std::string_view body);

}  // namespace rft
