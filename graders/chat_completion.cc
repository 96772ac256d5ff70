#include "graders/chat_completion.h"

#include "absl/strings/str_cat.h"
#include "rft/core/text.h"
#include "rft/io/json.h"

namespace rft {
std::string ChatUrl(std::string base_url) {
  while (base_url.ends_with('/')) base_url.pop_back();
  return base_url + "/chat/completions";
}

json::object ChatMessage(std::string_view role, std::string_view content) {
  return {{"role", std::string(role)}, {"content", ReplaceInvalidUtf8(content)}};
}

json::object StrictFormat(json::value schema) {
  return {{"type", "json_schema"},
          {"json_schema",
           json::object{{"name", "verdict"}, {"strict", true}, {"schema", std::move(schema)}}}};
}

absl::StatusOr<GeneratedText> ReadChatCompletion(std::string_view body) {
  const absl::StatusOr<json::value> reply = ParseJson(body);
  if (!reply.ok())
    return absl::DataLossError(absl::StrCat("the reply is not JSON: ", reply.status().message()));
  boost::system::error_code error;
  const json::value* message = reply->find_pointer("/choices/0/message", error);
  if (message == nullptr || !message->is_object())
    return absl::DataLossError("the reply has no choices[0].message");
  const json::object& said = message->get_object();
  if (const json::value* refusal = said.if_contains("refusal");
      refusal != nullptr && refusal->is_string() && !refusal->get_string().empty()) {
    return absl::DataLossError(
        absl::StrCat("the judge refused: ", std::string(refusal->get_string())));
  }
  const absl::StatusOr<std::string> text = GetString(said, "content");
  if (!text.ok()) {
    return absl::DataLossError(
        absl::StrCat("the reply's choices[0].message: ", text.status().message()));
  }
  GeneratedText generated;
  generated.text = *text;
  const json::value* reason = reply->find_pointer("/choices/0/finish_reason", error);
  if (reason != nullptr && *reason == "length") generated.finish_reason = FinishReason::kLength;
  const json::value* usage = reply->find_pointer("/usage", error);
  if (usage != nullptr && usage->is_object()) {
    generated.num_prompt_tokens = GetInt(usage->get_object(), "prompt_tokens").value_or(0);
    generated.num_completion_tokens = GetInt(usage->get_object(), "completion_tokens").value_or(0);
  }
  return generated;
}

}  // namespace rft
