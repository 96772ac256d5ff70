// A TextGenerator that asks an OpenAI-compatible server: POST {base_url}/chat/completions.
// Errors of the server that may pass (429, 5xx, lost connections) are tried again within the request's deadline, with one
// Idempotency-Key per request. Redirects are not followed. The key is never logged nor part of an error.
// Thread safety: as TextGenerator.
#pragma once

#include <string>

#include "rft/api/text_generator.h"
#include "rft/net/http_client.h"

namespace rft {

struct ChatGeneratorOptions {
  std::string base_url;  // "https://api.openai.com/v1", "http://127.0.0.1:8000/v1"
  std::string model;
  std::string api_key;  // "": none is sent
  // How the server is asked to keep to TextRequest::json_schema: "json_schema", "json_object" or "none".
  std::string structured = "json_schema";
  int max_attempts = 4;
};

class ChatGenerator : public TextGenerator {
 public:
  explicit ChatGenerator(ChatGeneratorOptions options) : options_(std::move(options)) {}
  absl::StatusOr<GeneratedText> Generate(const TextRequest& request) override;

 private:
  const ChatGeneratorOptions options_;
  HttpClient client_;
};

}  // namespace rft
