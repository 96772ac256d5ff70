#include "graders/chat_generator.h"

#include "absl/strings/str_cat.h"
#include "rft/core/status_macros.h"
#include "rft/io/json.h"

namespace rft {
namespace {

json::object Body(const TextRequest& request, const std::string& model, Structured structured) {
  json::array messages;
  for (const Message& message : request.messages) {
    messages.push_back(json::object{{"role", message.role}, {"content", message.content}});
  }
  json::object body = {{"model", model},
                       {"messages", std::move(messages)},
                       {"temperature", request.temperature},
                       {"top_p", request.top_p},
                       {"max_tokens", request.max_tokens},
                       {"seed", static_cast<int64_t>(request.seed >> 33)}};
  if (request.json_schema.empty() || structured == Structured::kNone) return body;
  if (structured == Structured::kJsonObject) {
    body["response_format"] = json::object{{"type", "json_object"}};
  } else if (absl::StatusOr<json::value> schema = ParseJson(request.json_schema); schema.ok()) {
    body["response_format"] = json::object{
        {"type", "json_schema"},
        {"json_schema",
         json::object{{"name", "verdict"}, {"strict", true}, {"schema", *std::move(schema)}}}};
  }
  return body;
}

absl::StatusOr<GeneratedText> Read(const std::string& body) {
  RFT_ASSIGN_OR_RETURN(const json::value value, ParseJson(body));
  const json::object* answer = value.if_object();
  if (answer == nullptr) return absl::DataLossError("the answer is not a JSON object");
  RFT_ASSIGN_OR_RETURN(const json::array* choices, GetArray(*answer, "choices"));
  if (choices->empty() || !(*choices)[0].is_object())
    return absl::DataLossError("the answer has no choices");
  const json::object& choice = (*choices)[0].get_object();
  RFT_ASSIGN_OR_RETURN(const json::object* message, GetObject(choice, "message"));
  GeneratedText generated;
  RFT_ASSIGN_OR_RETURN(generated.text, GetString(*message, "content"));
  const json::value* reason = choice.if_contains("finish_reason");
  if (reason != nullptr && *reason == "length") generated.finish_reason = FinishReason::kLength;
  if (const json::value* usage = answer->if_contains("usage");
      usage != nullptr && usage->is_object()) {
    generated.num_prompt_tokens = GetInt(usage->get_object(), "prompt_tokens").value_or(0);
    generated.num_completion_tokens = GetInt(usage->get_object(), "completion_tokens").value_or(0);
  }
  return generated;
}

}  // namespace

absl::StatusOr<GeneratedText> ChatGenerator::Generate(const TextRequest& request) {
  ServiceOptions service = service_;
  while (service.url.ends_with("/")) service.url.pop_back();
  service.url += "/chat/completions";
  const std::string body = ToJson(Body(request, model_, structured_));
  RFT_ASSIGN_OR_RETURN(
      const HttpResponse response,
      client_.Send(service.Request(body, request.deadline_s, NewIdempotencyKey())));
  RFT_RETURN_IF_ERROR(HttpStatus(response));
  absl::StatusOr<GeneratedText> generated = Read(response.body);
  if (generated.ok()) return generated;
  return absl::DataLossError(absl::StrCat("the server's answer: ", generated.status().message()));
}

}  // namespace rft
