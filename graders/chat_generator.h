// A TextGenerator that asks an OpenAI-compatible server: POST {base_url}/chat/completions.
// Errors of the server that may pass (429, 5xx, lost connections) are tried again within the request's deadline, with one
// Idempotency-Key per request. Redirects are not followed. The key is never logged nor part of an error.
// Thread safety: as TextGenerator.
#pragma once

#include <string>
#include <utility>

#include "graders/service_calls.h"
#include "rft/api/text_generator.h"
#include "rft/net/http_client.h"

namespace rft {

// How the server is asked to keep to TextRequest::json_schema: by response_format, or not at all.
enum class Structured { kJsonSchema, kJsonObject, kNone };

class ChatGenerator : public TextGenerator {
 public:
  // service.url is the base, as "http://127.0.0.1:8000/v1".
  ChatGenerator(ServiceOptions service, std::string model, Structured structured)
      : service_(std::move(service)), model_(std::move(model)), structured_(structured) {}
  absl::StatusOr<GeneratedText> Generate(const TextRequest& request) override;

 private:
  const ServiceOptions service_;
  const std::string model_;
  const Structured structured_;
  HttpClient client_;
};

}  // namespace rft
