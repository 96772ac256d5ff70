// An InferenceEngine behind HTTP: rft serve, vLLM, SGLang, llama.cpp's server. Token ids in, token ids out. Torch-free.
//
//   Submit ─▶ one request of n samples ─▶ [server] ─▶ whole reply ─▶ checked ─▶ sink: OnTokens, OnFinished
//   Cancel ─▶ the connection is closed, which is what makes a server stop
//
// Nothing of a reply is believed: a truncated, malformed, mixed-up, duplicated or non-finite one ends its samples with
// kError and a text that begins with the status code's name ("DATA_LOSS: choice 1 comes twice"); a late one with
// "DEADLINE_EXCEEDED: ...", a lost server with "UNAVAILABLE: ...". Ids that a server can't give are an error, too: text is
// never tokenised again.
//
// Differences from an engine in this process: OnTokens is called when the reply is there; the same RngKey gives the same
// completions from rft serve, and whatever the server makes of a seed elsewhere.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "rft/api/inference_engine.h"
#include "rft/core/published_weights.h"
#include "rft/core/routes.h"

namespace rft {

// Which fields a server knows.
enum class HttpDialect { kRft, kVllm, kSglang, kLlamaCpp };
absl::StatusOr<HttpDialect> ParseHttpDialect(
    const std::string& name);  // "rft", "vllm", "sglang", "llama.cpp"

struct HttpEngineOptions {
  std::string url;    // of the server, without a path: "http://127.0.0.1:8000"
  std::string model;  // as the server calls it; empty: the first one that it lists
  std::string api_key;
  HttpDialect dialect = HttpDialect::kRft;
  double deadline_s = 600.0;   // of a request, further attempts included
  int64_t queue_limit = 4096;  // samples in flight; more are refused
  int64_t max_context = 0;     // 0: what the server says (then it must say it)
  int64_t vocab_size = 0;      // 0: ids are only checked to be >= 0
  RouteCodec
      routes;  // of the model's experts; a dense model's is empty, and no routes are asked for
  size_t max_response_bytes = size_t{256} << 20;
  int max_attempts = 3;  // while the server is away or says "later"
};

// Weights that lie in a folder which the server can read.
struct FolderWeights : PublishedWeights {
  FolderWeights(std::string folder, int64_t number) : folder(std::move(folder)), number(number) {}
  int64_t version() const override { return number; }
  std::string folder;
  int64_t number;
};

// Asks the server for its models. Errors: kUnavailable (not reachable), kInvalidArgument (a bad URL, an unknown model),
// kDataLoss (not such a server).
// Publish takes FolderWeights and returns when the server has them; kUnimplemented where a dialect has no way to say so
// (vllm, llama.cpp). Versions of tokens are those that Publish was given (0 before the first).
absl::StatusOr<std::unique_ptr<InferenceEngine>> CreateHttpEngine(const HttpEngineOptions& options);

}  // namespace rft
