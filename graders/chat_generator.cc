#include "graders/chat_generator.h"

#include "graders/chat_completion.h"
#include "rft/core/status_macros.h"
#include "rft/io/json.h"

namespace rft {
namespace {

json::object Body(const TextRequest& request, const std::string& model, Structured structured) {
  json::array messages;
  for (const Message& message : request.messages)
    messages.push_back(ChatMessage(message.role, message.content));
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
    body["response_format"] = StrictFormat(*std::move(schema));
  }
  return body;
}

}  // namespace

absl::StatusOr<GeneratedText> ChatGenerator::Generate(const TextRequest& request) {
  ServiceOptions service = service_;
  service.url = ChatUrl(service.url);
  const std::string body = ToJson(Body(request, model_, structured_));
  RFT_ASSIGN_OR_RETURN(
      const HttpResponse response,
      client_.Send(service.Request(body, request.deadline_s, NewIdempotencyKey())));
  RFT_RETURN_IF_ERROR(HttpStatus(response));
  return ReadChatCompletion(response.body);
}

}  // namespace rft
