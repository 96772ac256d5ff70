#include "rft/remote/http_engine.h"

#include <algorithm>
#include <condition_variable>
#include <map>
#include <mutex>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "rft/core/clock.h"
#include "rft/core/status_macros.h"
#include "rft/io/json.h"
#include "rft/net/http_client.h"
#include "rft/remote/http_dialect.h"

namespace rft {
namespace {

class HttpEngine : public InferenceEngine {
 public:
  explicit HttpEngine(HttpEngineOptions options)
      : options_(std::move(options)), client_(std::make_unique<HttpClient>()) {}
  ~HttpEngine() override { Shutdown(); }

  // The model's name and its context, from GET /v1/models.
  absl::Status Connect() {
    HttpRequest request = NewRequest("/v1/models", "");
    request.method = "GET";
    request.timeout_s = std::min(options_.deadline_s, 30.0);
    RFT_ASSIGN_OR_RETURN(const HttpResponse response, client_->Send(std::move(request)));
    RFT_RETURN_IF_ERROR(HttpStatus(response));
    const auto not_a_list = absl::DataLossError(absl::StrCat(
        options_.url, "/v1/models: not a list of models; is this an OpenAI-compatible server?"));
    const auto reply = ParseJson(response.body);
    if (!reply.ok() || !reply->is_object()) return not_a_list;
    const auto data = GetArray(reply->get_object(), "data");
    if (!data.ok()) return not_a_list;
    for (const json::value& item : **data) {
      if (!item.is_object()) return not_a_list;
      const auto id = GetString(item.get_object(), "id");
      if (!id.ok() || (!options_.model.empty() && *id != options_.model)) continue;
      options_.model = *id;
      const auto context = GetInt(item.get_object(), "max_model_len");
      if (options_.max_context == 0 && context.ok()) options_.max_context = *context;
      if (const auto version = GetInt(item.get_object(), "weight_version"); version.ok())
        versions_[*version] = 0;
      if (options_.max_context > 0) return absl::OkStatus();
      return absl::InvalidArgumentError(
          absl::StrCat("max_context: ", options_.url, " does not say it; give it"));
    }
    return absl::InvalidArgumentError(
        absl::StrCat("model: ", options_.url, " has no model '", options_.model, "'"));
  }

  absl::StatusOr<RequestHandle> Submit(GenerateRequest request,
                                       std::shared_ptr<CompletionSink> sink) override {
    RFT_RETURN_IF_ERROR(Validate(request));
    RFT_ASSIGN_OR_RETURN(const HttpCall call, GenerateCall(options_, request));
    auto job = std::make_shared<Job>();
    job->request = std::move(request);
    job->sink = std::move(sink);
    std::lock_guard<std::mutex> lock(mutex_);
    if (stopping_) return absl::FailedPreconditionError("engine: shut down");
    if (in_flight_ + job->request.num_samples > options_.queue_limit)
      return absl::ResourceExhaustedError(
          absl::StrCat("engine: ", in_flight_, " samples are in flight, the limit is ",
                       options_.queue_limit, " (engine.queue_limit); wait for some to finish"));
    in_flight_ += job->request.num_samples;
    job->version = version_;
    const RequestHandle handle = ++last_handle_;
    // `done` runs on the client's thread and takes the lock: not before the id is known here.
    const uint64_t id =
        client_->SendAsync(NewRequest(call.path, call.body),
                           [this, handle, job](absl::StatusOr<HttpResponse> response) {
                             Finish(handle, *job, std::move(response));
                           });
    open_[handle] = id;
    return handle;
  }

  void Cancel(RequestHandle handle) override {
    std::lock_guard<std::mutex> lock(mutex_);
    if (auto it = open_.find(handle); it != open_.end()) client_->Cancel(it->second);
  }

  absl::Status Publish(std::shared_ptr<const PublishedWeights> weights) override {
    const auto* folder = dynamic_cast<const FolderWeights*>(weights.get());
    if (folder == nullptr)
      return absl::InvalidArgumentError(
          "engine: a server takes weights from a folder (FolderWeights), not from this process");
    RFT_ASSIGN_OR_RETURN(const HttpCall call, UpdateCall(options_.dialect, *folder));
    RFT_ASSIGN_OR_RETURN(const HttpResponse response,
                         client_->Send(NewRequest(call.path, call.body)));
    RFT_RETURN_IF_ERROR(HttpStatus(response));
    const auto reply = ParseJson(response.body);
    const auto success = reply.ok() && reply->is_object() ? GetBool(reply->get_object(), "success")
                                                          : absl::DataLossError("not an object");
    if (!success.ok() || !*success)
      return absl::DataLossError(
          absl::StrCat("the server did not take the weights: ", response.body.substr(0, 200)));
    const auto theirs = GetInt(reply->get_object(), "version");
    std::lock_guard<std::mutex> lock(mutex_);
    version_ = folder->number;
    if (theirs.ok()) versions_[*theirs] = folder->number;
    return absl::OkStatus();
  }

  EngineStats stats() const override {
    std::lock_guard<std::mutex> lock(mutex_);
    EngineStats stats = stats_;
    stats.running = in_flight_;
    return stats;
  }
  int64_t max_context() const override { return options_.max_context; }

  void Shutdown() override {
    {
      std::unique_lock<std::mutex> lock(mutex_);
      stopping_ = true;
      for (const auto& [handle, id] : open_) client_->Cancel(id);
      idle_.wait(lock, [this] { return in_flight_ == 0; });
    }
  }

 private:
  struct Job {
    GenerateRequest request;
    std::shared_ptr<CompletionSink> sink;
    int64_t version = 0;  // at Submit
  };

  absl::Status Validate(const GenerateRequest& r) const {
    const SamplingParams& s = r.sampling;
    if (r.prompt.empty())
      return absl::InvalidArgumentError("prompt: is empty; at least one token is needed");
    if (r.num_samples < 1 || r.num_samples > 4096)
      return absl::InvalidArgumentError("num_samples: must be in 1 .. 4096");
    for (const TokenId id : r.prompt)
      if (id < 0 || (options_.vocab_size > 0 && id >= options_.vocab_size))
        return absl::InvalidArgumentError(
            absl::StrCat("prompt: token ", id, " is outside the vocabulary"));
    if (s.max_tokens < 1) return absl::InvalidArgumentError("max_tokens: must be at least 1");
    if (!(s.temperature >= 0.0))
      return absl::InvalidArgumentError("temperature: must be at least 0");
    if (!(s.top_p > 0.0 && s.top_p <= 1.0))
      return absl::InvalidArgumentError("top_p: must be in (0, 1]");
    if (!r.adapter.empty())
      return absl::InvalidArgumentError("adapter: servers are asked for their one model here");
    const int64_t total = static_cast<int64_t>(r.prompt.size()) + s.max_tokens;
    if (total > options_.max_context)
      return absl::InvalidArgumentError(
          absl::StrCat("prompt: ", r.prompt.size(), " tokens and max_tokens ", s.max_tokens,
                       " exceed the context of ", options_.max_context));
    return absl::OkStatus();
  }

  HttpRequest NewRequest(const std::string& path, std::string body) const {
    HttpRequest request;
    request.url = options_.url + path;
    if (!options_.api_key.empty())
      request.headers.emplace_back("Authorization", "Bearer " + options_.api_key);
    request.body = std::move(body);
    request.timeout_s = options_.deadline_s;
    request.max_response_bytes = options_.max_response_bytes;
    request.retry.max_attempts = options_.max_attempts;
    return request;
  }

  // On the client's thread.
  void Finish(RequestHandle handle, Job& job, absl::StatusOr<HttpResponse> response) {
    absl::Status status = response.status();
    if (status.ok()) status = HttpStatus(*response);
    std::vector<Completion> completions(static_cast<size_t>(job.request.num_samples));
    if (status.ok()) {
      auto read = ReadReply(options_, job.request, response->body);
      status = read.status();
      if (read.ok()) completions = *std::move(read);
    }
    if (status.ok()) status = TranslateVersions(job, completions);
    if (!status.ok()) {
      const bool cancelled = absl::IsCancelled(status);
      for (Completion& c : completions) {
        c = Completion();
        c.finish_reason = cancelled ? FinishReason::kCancelled : FinishReason::kError;
        if (!cancelled)
          c.error = absl::StrCat(absl::StatusCodeToString(status.code()), ": ", status.message());
      }
    }
    Deliver(job, std::move(completions));
    std::lock_guard<std::mutex> lock(mutex_);
    open_.erase(handle);
    in_flight_ -= job.request.num_samples;
    if (in_flight_ == 0) idle_.notify_all();
  }

  // From the server's numbers to those that Publish was given.
  absl::Status TranslateVersions(const Job& job, std::vector<Completion>& completions) {
    std::lock_guard<std::mutex> lock(mutex_);
    for (Completion& c : completions) {
      if (c.versions.empty())
        c.versions.assign(c.ids.size(), job.version);
      else
        for (int64_t& version : c.versions) {
          const auto it = versions_.find(version);
          if (it == versions_.end())
            return absl::DataLossError(absl::StrCat("the server's reply: weight version ", version,
                                                    " was not published by this engine"));
          version = it->second;
        }
      stats_.tokens_sampled += static_cast<int64_t>(c.ids.size());
    }
    return absl::OkStatus();
  }

  void Deliver(Job& job, std::vector<Completion> completions) {
    for (size_t i = 0; i < completions.size(); ++i) {
      const auto sample = static_cast<int32_t>(i);
      if (!completions[i].ids.empty()) job.sink->OnTokens(sample, completions[i], 0);
      job.sink->OnFinished(sample, std::move(completions[i]));
    }
  }

  HttpEngineOptions options_;  // constant after Connect

  mutable std::mutex mutex_;  // guards what follows
  std::condition_variable idle_;
  std::map<RequestHandle, uint64_t> open_;
  std::map<int64_t, int64_t> versions_;  // the server's -> ours
  RequestHandle last_handle_ = 0;
  int64_t in_flight_ = 0;
  int64_t version_ = 0;
  bool stopping_ = false;
  EngineStats stats_;

  std::unique_ptr<HttpClient> client_;  // last: its thread uses what is above
};

}  // namespace

absl::StatusOr<std::unique_ptr<InferenceEngine>> CreateHttpEngine(
    const HttpEngineOptions& options) {
  if (options.queue_limit < 1 || options.deadline_s <= 0 || options.max_attempts < 1)
    return absl::InvalidArgumentError(
        "engine: queue_limit and max_attempts must be at least 1, deadline_s greater than 0");
  auto engine = std::make_unique<HttpEngine>(options);
  RFT_RETURN_IF_ERROR(engine->Connect());
  return engine;
}

}  // namespace rft
