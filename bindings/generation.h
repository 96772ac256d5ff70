// Waits for the completions of several requests on behalf of one caller: the engine's thread only leaves events here, the
// caller takes them. Knows no Python, so that the engine's thread never waits for the GIL.
//
//   engine thread ── OnTokens / OnFinished ─▶ [events] ── Wait ─▶ caller (on_token callback, Ctrl-C check, deadline)
#pragma once

#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "rft/api/inference_engine.h"

namespace rft::python {

struct TokenEvent {
  int32_t prompt = 0;  // index of the request
  int32_t sample = 0;
  TokenId id = 0;
  float logprob = 0;  // nats, temperature 1
};

// Thread safety: the sinks from the engine's thread, everything else from one caller.
class Generation : public std::enable_shared_from_this<Generation> {
 public:
  // want_tokens: whether OnTokens is worth keeping.
  static std::shared_ptr<Generation> Create(bool want_tokens);

  // Submits all; on an error those already submitted are cancelled.
  absl::Status Submit(InferenceEngine& engine, std::vector<GenerateRequest> requests);

  // Moves the tokens that came since the last call into `tokens` (in order); waits up to `seconds` for some when there are
  // none. False once everything is finished and all tokens have been taken.
  bool Wait(double seconds, std::vector<TokenEvent>* tokens);

  // Ends what is unfinished; Wait still has to be called until it returns false if the results are wanted.
  void Cancel(InferenceEngine& engine);
  // The same for the samples of one request.
  void Cancel(InferenceEngine& engine, int32_t prompt) {
    engine.Cancel(handles_[static_cast<size_t>(prompt)]);
  }

  // result[i][s]: sample s of request i. REQUIRES: Wait has returned false.
  std::vector<std::vector<Completion>> TakeResults();

 private:
  class Sink;
  explicit Generation(bool want_tokens) : want_tokens_(want_tokens) {}

  const bool want_tokens_;
  std::vector<RequestHandle> handles_;

  std::mutex mutex_;  // guards what follows
  std::condition_variable changed_;
  std::vector<TokenEvent> tokens_;
  std::vector<std::vector<Completion>> results_;
  int64_t num_unfinished_ = 0;
};

}  // namespace rft::python
