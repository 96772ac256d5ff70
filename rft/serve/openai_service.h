// The OpenAI-compatible API over an InferenceEngine and a TextCodec, both injected. Torch-free, socket-free.
//
//   GET  /v1/models, /v1/models/{id}, /healthz (no key needed), /metrics (Prometheus)
//   POST /v1/completions, /v1/chat/completions (streamed or not), /tokenize, /detokenize
//   For trainers that roll out on this server, in vLLM's style (SGLang's names too):
//   GET  /v1/weights, /is_paused
//   POST /update_weights, /v1/load_lora_adapter, /v1/unload_lora_adapter, /pause, /resume, /reset_prefix_cache
//
// Default deny: with keys configured every route but /healthz needs one; requests of web pages (an Origin header) are
// refused unless their origin is allowed; bodies must be JSON.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "rft/api/inference_engine.h"
#include "rft/api/text_codec.h"
#include "rft/api/token_mask.h"
#include "rft/core/routes.h"
#include "rft/serve/http_exchange.h"
#include "rft/serve/limits.h"

namespace rft::serve {

struct ServiceOptions {
  std::vector<std::string> model_names;  // >= 1; the first one is shown
  std::vector<std::string> api_keys;     // empty: everyone who can connect
  std::vector<std::string> allowed_origins;
  std::string weights_root;  // /update_weights takes folders below it; empty: refused
  ServeLimits limits;
};

struct ServiceParts {
  InferenceEngine* engine = nullptr;  // outlives the service and the HTTP server
  std::shared_ptr<const TextCodec> codec;
  int64_t version = 0;  // of the weights at the start
  RouteCodec routes;    // of the model's experts (include_routing_matrix); a dense one's is empty
  // Loads a model folder's weights and publishes them; returns the new version. Called from one thread at a time, without
  // any lock. May be empty (then /update_weights answers 501).
  std::function<absl::StatusOr<int64_t>(const std::string& folder)> load_weights;
  // Adapters: published under their name, or withdrawn. One at a time, too. May be empty (501). `adapters`: folders of those
  // that are there at the start, by name.
  std::function<absl::Status(const std::string& name, const std::string& folder)> load_adapter;
  std::function<absl::Status(const std::string& name)> unload_adapter;
  std::map<std::string, std::string> adapters;
  GrammarCompiler compile_grammar;  // empty: structured output is answered with 400
};

// Thread safety: as HttpService.
std::unique_ptr<HttpService> MakeOpenAiService(const ServiceOptions& options, ServiceParts parts);

}  // namespace rft::serve
