// Carries one HTTP request's prompts to the engine and what comes back to the reply.
//
//   worker: Start ─ Submit ─▶ engine thread: OnTokens / OnFinished ─▶ [events] ─ one Post ─▶ I/O thread: ReplyWriter
//   I/O thread: the client has gone ─▶ Cancel
//
// The engine's thread only appends to a list, so a slow client never slows the engine down.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "rft/api/inference_engine.h"
#include "rft/serve/http_exchange.h"
#include "rft/serve/metrics.h"

namespace rft::serve {

// Shapes the answer. Used on the I/O thread only. Choice = completion, prompt by prompt: prompt * n + sample.
class ReplyWriter {
 public:
  virtual ~ReplyWriter() = default;
  virtual bool streams() const = 0;
  // `news`: tokens of a choice that are new, and with its first ones what is known of the prompt. `finished` (or null) is
  // the whole completion when they are the last ones. Returns text of server-sent events. Called only if streams().
  virtual std::string Events(int64_t choice, const Completion& news,
                             const Completion* finished) = 0;
  // What follows the last choice's events.
  virtual std::string LastEvents() = 0;
  // The body of a reply that is not streamed.
  virtual std::string Body(const std::vector<Completion>& completions) = 0;
};

class GenerationJob : public std::enable_shared_from_this<GenerationJob> {
 public:
  // All requests have the same num_samples. Errors of Submit are answered. `on_done` is called once, on any thread, when
  // the engine has let go of all of it. `engine` must outlive the HTTP server.
  static std::shared_ptr<GenerationJob> Start(InferenceEngine& engine,
                                              std::vector<GenerateRequest> requests,
                                              std::shared_ptr<Exchange> exchange,
                                              std::shared_ptr<ReplyWriter> writer,
                                              std::shared_ptr<Metrics> metrics,
                                              std::function<void()> on_done);
  // Ends what is unfinished; it is answered with what there is. Any thread.
  void Cancel();

 private:
  class Sink;
  GenerationJob(InferenceEngine& engine, std::shared_ptr<Exchange> exchange,
                std::shared_ptr<ReplyWriter> writer, std::shared_ptr<Metrics> metrics,
                std::function<void()> on_done);
  void Submit(std::vector<GenerateRequest> requests);
  void OnTokens(int64_t choice, const Completion& so_far, size_t first);
  void OnFinished(int64_t choice, Completion completion);
  void Wake();   // REQUIRES: mutex_ held
  void Drain();  // I/O thread
  void Fail(HttpReply reply);
  void Conclude();

  InferenceEngine& engine_;
  const std::shared_ptr<Exchange> exchange_;
  const std::shared_ptr<ReplyWriter> writer_;
  const std::shared_ptr<Metrics> metrics_;
  const std::function<void()> on_done_;
  const double started_s_;
  bool begun_ = false, answered_ = false;  // I/O thread

  mutable std::mutex mutex_;  // guards what follows
  std::vector<RequestHandle> handles_;
  bool cancelled_ = false, draining_ = false, has_first_token_ = false;
  std::vector<Completion> news_;  // by choice, not yet written
  std::vector<int64_t> touched_;  // choices with something new, in order of arrival
  std::vector<uint8_t> is_touched_, is_finished_;
  std::vector<Completion> completions_;
  int64_t num_unfinished_ = 0;
};

}  // namespace rft::serve
