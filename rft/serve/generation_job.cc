#include "rft/serve/generation_job.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "rft/core/clock.h"
#include "rft/serve/api_error.h"

namespace rft::serve {
namespace {

template <typename T>
void Append(const std::vector<T>& from, size_t first, std::vector<T>& to) {
  if (first < from.size())
    to.insert(to.end(), from.begin() + static_cast<int64_t>(first), from.end());
}

// Adds the tokens of `from` that begin at `first`, and with the very first what is known of the prompt.
void AppendTokens(const Completion& from, size_t first, Completion& to) {
  Append(from.ids, first, to.ids);
  Append(from.logprobs, first, to.logprobs);
  Append(from.sampling_logprobs, first, to.sampling_logprobs);
  Append(from.top_logprobs, first, to.top_logprobs);
  Append(from.routes, from.routes.size() / from.ids.size() * first, to.routes);
  if (first > 0) return;
  to.prompt_logprobs = from.prompt_logprobs;
  to.prompt_top_logprobs = from.prompt_top_logprobs;
  to.prompt_routes = from.prompt_routes;
}

}  // namespace

// One per prompt. Keeps the job alive until the engine lets go of it, also after the client has gone.
class GenerationJob::Sink : public CompletionSink {
 public:
  Sink(std::shared_ptr<GenerationJob> job, int64_t first_choice)
      : job_(std::move(job)), first_choice_(first_choice) {}
  void OnTokens(int32_t sample, const Completion& so_far, size_t first) override {
    job_->OnTokens(first_choice_ + sample, so_far, first);
  }
  void OnFinished(int32_t sample, Completion completion) override {
    job_->OnFinished(first_choice_ + sample, std::move(completion));
  }

 private:
  const std::shared_ptr<GenerationJob> job_;
  const int64_t first_choice_;
};

GenerationJob::GenerationJob(InferenceEngine& engine, std::shared_ptr<Exchange> exchange,
                             std::shared_ptr<ReplyWriter> writer, std::shared_ptr<Metrics> metrics,
                             std::function<void()> on_done)
    : engine_(engine),
      exchange_(std::move(exchange)),
      writer_(std::move(writer)),
      metrics_(std::move(metrics)),
      on_done_(std::move(on_done)),
      started_s_(Clock::Default().NowSeconds()) {}

std::shared_ptr<GenerationJob> GenerationJob::Start(InferenceEngine& engine,
                                                    std::vector<GenerateRequest> requests,
                                                    std::shared_ptr<Exchange> exchange,
                                                    std::shared_ptr<ReplyWriter> writer,
                                                    std::shared_ptr<Metrics> metrics,
                                                    std::function<void()> on_done) {
  std::shared_ptr<GenerationJob> job(new GenerationJob(
      engine, std::move(exchange), std::move(writer), std::move(metrics), std::move(on_done)));
  job->Submit(std::move(requests));
  return job;
}

void GenerationJob::Submit(std::vector<GenerateRequest> requests) {
  const int64_t n = requests[0].num_samples;
  const auto num_choices = static_cast<size_t>(n) * requests.size();
  {
    std::lock_guard<std::mutex> lock(mutex_);
    news_.resize(num_choices);
    completions_.resize(num_choices);
    is_touched_.resize(num_choices);
    is_finished_.resize(num_choices);
    num_unfinished_ = static_cast<int64_t>(num_choices);
  }
  int64_t prompt_tokens = 0;
  for (size_t i = 0; i < requests.size(); ++i) {
    prompt_tokens += static_cast<int64_t>(requests[i].prompt.size());
    auto handle =
        engine_.Submit(std::move(requests[i]),
                       std::make_shared<Sink>(shared_from_this(), static_cast<int64_t>(i) * n));
    if (!handle.ok()) {
      Cancel();
      bool done;
      {
        std::lock_guard<std::mutex> lock(mutex_);
        num_unfinished_ -= n * static_cast<int64_t>(requests.size() - i);
        done = num_unfinished_ == 0;
      }
      if (done) on_done_();
      return exchange_->Post([self = shared_from_this(), status = handle.status()] {
        self->Fail(ErrorReply(status));
      });
    }
    std::unique_lock<std::mutex> lock(mutex_);
    handles_.push_back(*handle);
    if (!cancelled_) continue;
    lock.unlock();
    engine_.Cancel(*handle);
  }
  metrics_->prompt_tokens += prompt_tokens;
  // From here on the client is watched; the callback must not keep the job (and so the exchange) alive for ever.
  exchange_->OnGone([weak = weak_from_this()] {
    if (auto self = weak.lock()) self->Cancel();
  });
}

void GenerationJob::Cancel() {
  std::vector<RequestHandle> handles;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (std::exchange(cancelled_, true)) return;
    handles = handles_;
  }
  for (const RequestHandle handle : handles) engine_.Cancel(handle);
}

void GenerationJob::OnTokens(int64_t choice, const Completion& so_far, size_t first) {
  const auto index = static_cast<size_t>(choice);
  std::lock_guard<std::mutex> lock(mutex_);
  if (!std::exchange(has_first_token_, true))
    metrics_->first_token_s.Observe(Clock::Default().NowSeconds() - started_s_);
  if (!writer_->streams()) return;
  AppendTokens(so_far, first, news_[index]);
  if (!std::exchange(is_touched_[index], 1)) touched_.push_back(choice);
  Wake();
}

void GenerationJob::OnFinished(int64_t choice, Completion completion) {
  const auto index = static_cast<size_t>(choice);
  ++metrics_->completions;
  metrics_->completion_tokens += static_cast<int64_t>(completion.ids.size());
  if (completion.finish_reason == FinishReason::kCancelled) ++metrics_->cancelled;
  bool done;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    completions_[index] = std::move(completion);
    is_finished_[index] = 1;
    if (!std::exchange(is_touched_[index], 1)) touched_.push_back(choice);
    done = --num_unfinished_ == 0;
    if (done || writer_->streams()) Wake();
  }
  if (done) on_done_();
}

void GenerationJob::Wake() {
  if (std::exchange(draining_, true)) return;
  exchange_->Post([self = shared_from_this()] { self->Drain(); });
}

void GenerationJob::Drain() {
  struct Item {
    int64_t choice;
    Completion tokens;
    bool finished;
  };
  std::vector<Item> news;
  bool all_finished;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    draining_ = false;
    all_finished = num_unfinished_ == 0;
    for (const int64_t choice : touched_) {
      const auto index = static_cast<size_t>(choice);
      news.push_back({choice, std::exchange(news_[index], {}), is_finished_[index] != 0});
      is_touched_[index] = 0;
    }
    touched_.clear();
  }
  if (answered_) return;
  for (const Item& item : news) {
    const Completion& done = completions_[static_cast<size_t>(item.choice)];
    if (item.finished && done.finish_reason == FinishReason::kError) {
      Fail(ErrorReply(500, absl::StrCat("the engine failed: ", done.error)));
      return Cancel();
    }
  }
  if (writer_->streams()) {
    std::string text;
    for (const Item& item : news)
      text += writer_->Events(
          item.choice, item.tokens,
          item.finished ? &completions_[static_cast<size_t>(item.choice)] : nullptr);
    if (!std::exchange(begun_, true)) exchange_->BeginEvents();
    exchange_->WriteEvents(std::move(text));
  }
  if (all_finished) Conclude();
}

void GenerationJob::Fail(HttpReply reply) {
  if (std::exchange(answered_, true)) return;
  if (!begun_) return exchange_->Reply(std::move(reply));
  exchange_->WriteEvents(absl::StrCat("event: error\ndata: ", reply.body, "\n\ndata: [DONE]\n\n"));
  exchange_->EndEvents();
}

void GenerationJob::Conclude() {
  metrics_->request_s.Observe(Clock::Default().NowSeconds() - started_s_);
  answered_ = true;
  if (!writer_->streams()) return exchange_->Reply({.body = writer_->Body(completions_)});
  exchange_->WriteEvents(writer_->LastEvents());
  exchange_->EndEvents();
}

}  // namespace rft::serve
