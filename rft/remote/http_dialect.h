// What goes to a server and what comes back, per dialect. Pure functions. Private to rft/remote.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "rft/api/inference_engine.h"
#include "rft/remote/http_engine.h"

namespace rft {

// Whether the reply must have the experts of every token: the request wants them and the model has any.
bool WantsRoutes(const HttpEngineOptions& options, const GenerateRequest& request);

// Path under the server's URL and JSON body. kInvalidArgument: a parameter that this dialect can't say.
struct HttpCall {
  std::string path;
  std::string body;
};
absl::StatusOr<HttpCall> GenerateCall(const HttpEngineOptions& options,
                                      const GenerateRequest& request);
absl::StatusOr<HttpCall> UpdateCall(HttpDialect dialect, const FolderWeights& weights);

// The completions of a reply, by sample. versions are the server's own; empty where it tells none. kDataLoss (and what is
// wrong) unless it is complete and plausible: every choice once, ids within the vocabulary, as many finite
// log-probabilities <= 0 as ids, as many alternatives as were asked for, at most max_tokens, the prompt that was sent.
// kUnimplemented: no token ids or log-probabilities in it.
absl::StatusOr<std::vector<Completion>> ReadReply(const HttpEngineOptions& options,
                                                  const GenerateRequest& request,
                                                  const std::string& body);

}  // namespace rft
