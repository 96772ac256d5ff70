#include "rft/engine/local_engine.h"

#include <algorithm>
#include <condition_variable>
#include <map>
#include <mutex>
#include <set>
#include <thread>

#include <c10/core/InferenceMode.h>

#include "absl/strings/str_cat.h"
#include "rft/core/status_macros.h"
#include "rft/engine/draw_tokens.h"
#include "rft/engine/engine_request.h"
#include "rft/engine/forward_pass.h"
#include "rft/engine/iteration_log.h"
#include "rft/engine/next_allowed.h"
#include "rft/engine/paged_cache.h"
#include "rft/engine/route_recorder.h"
#include "rft/engine/scheduler.h"
#include "rft/engine/work_weights.h"
#include "rft/tensor/memory.h"
#include "rft/tensor/try_torch.h"

namespace rft {
namespace {

constexpr int64_t kPageTokens = kBlockKeys;

class LocalEngine : public InferenceEngine {
 public:
  LocalEngine(std::shared_ptr<CausalLm> model, const EngineOptions& options,
              std::shared_ptr<const TextCodec> codec, int64_t num_pages)
      : model_(std::move(model)),
        options_(options),
        codec_(std::move(codec)),
        current_(model_->weights()),
        cache_(num_pages, model_->config().num_layers, model_->head_layout(), model_->dtype(),
               model_->route_codec().token_bytes()),
        scheduler_(num_pages,
                   {options.max_batch, options.max_batch_tokens, kPageTokens, options.prefix_cache},
                   [this](PageId from, PageId to) { cache_.CopyPage(from, to); }),
        routes_(model_->route_codec(), cache_) {
    scheduler_.SetVersion(last_weights_id_);
    stats_.pages_total = num_pages;
    stats_.page_bytes =
        PagedCache::PageBytes(model_->config().num_layers, model_->head_layout(), model_->dtype());
    thread_ = std::thread([this] { Loop(); });
  }
  ~LocalEngine() override { Shutdown(); }

  absl::StatusOr<RequestHandle> Submit(GenerateRequest request,
                                       std::shared_ptr<CompletionSink> sink) override {
    RFT_ASSIGN_OR_RETURN(
        auto owner, MakeEngineRequest(std::move(request), model_->config(),
                                      {scheduler_.pool().total(), kPageTokens, codec_ != nullptr}));
    owner->sink = std::move(sink);
    std::lock_guard lock(mutex_);
    if (stopping_) return absl::FailedPreconditionError("engine: shut down");
    if (const std::string& name = owner->request.adapter; !name.empty()) {
      const auto it = adapters_.find(name);
      if (it == adapters_.end())
        return absl::InvalidArgumentError(
            absl::StrCat("adapter: '", name, "' has not been published to this engine"));
      owner->weights = it->second.weights;
      owner->weights_id = it->second.id;
    }
    if (unfinished_ + owner->request.num_samples > options_.queue_limit)
      return absl::ResourceExhaustedError(
          absl::StrCat("engine: ", unfinished_, " samples are in flight, the limit is ",
                       options_.queue_limit, " (engine.queue_limit); wait for some to finish"));
    owner->handle = ++last_handle_;
    unfinished_ += owner->request.num_samples;
    remaining_[owner->handle] = owner->request.num_samples;
    submitted_.push_back(owner);
    wake_.notify_one();
    return owner->handle;
  }

  void Cancel(RequestHandle handle) override {
    std::lock_guard lock(mutex_);
    cancelled_.push_back(handle);
    wake_.notify_one();
  }

  absl::Status Publish(std::shared_ptr<const PublishedWeights> weights) override {
    RFT_ASSIGN_OR_RETURN(auto mine, Mine(std::move(weights)));
    std::lock_guard lock(mutex_);
    published_ = std::move(mine);
    wake_.notify_one();
    return absl::OkStatus();
  }

  absl::Status PublishAdapter(const std::string& name,
                              std::shared_ptr<const PublishedWeights> weights) override {
    if (name.empty()) return absl::InvalidArgumentError("adapter: needs a name");
    std::shared_ptr<const ModelWeights> mine;
    if (weights) {
      RFT_ASSIGN_OR_RETURN(mine, Mine(std::move(weights)));
    }
    std::lock_guard lock(mutex_);
    if (mine)
      adapters_[name] = {std::move(mine), ++last_weights_id_};
    else
      adapters_.erase(name);
    adapters_changed_ = true;
    return absl::OkStatus();
  }

  void ResetPrefixCache() override {
    std::lock_guard lock(mutex_);
    forget_prefixes_ = true;
    wake_.notify_one();
  }

  EngineStats stats() const override {
    std::lock_guard lock(mutex_);
    return stats_;
  }
  std::vector<IterationCost> RecentIterations() const override {
    std::lock_guard lock(mutex_);
    return log_.Recent();
  }
  int64_t max_context() const override { return model_->config().max_positions; }

  void Shutdown() override {
    {
      std::lock_guard lock(mutex_);
      stopping_ = true;
      wake_.notify_one();
    }
    std::lock_guard join(join_mutex_);
    if (thread_.joinable()) thread_.join();
  }

 private:
  struct Adapter {
    std::shared_ptr<const ModelWeights> weights;
    int64_t id;  // the scheduler's number of them
  };

  absl::StatusOr<std::shared_ptr<const ModelWeights>> Mine(
      std::shared_ptr<const PublishedWeights> weights) const {
    auto mine = std::dynamic_pointer_cast<const ModelWeights>(std::move(weights));
    if (!mine || mine->model != model_.get())
      return absl::InvalidArgumentError(
          "engine: these weights belong to another model than this engine runs");
    return mine;
  }

  // From now on iterations run on `weights`. REQUIRES: the lock.
  void Adopt(std::shared_ptr<const ModelWeights> weights) {
    if (weights == current_) return;
    current_ = std::move(weights);
    scheduler_.SetVersion(++last_weights_id_);
    scheduler_.RecomputeForNewVersion();
    ++stats_.weight_swaps;
  }

  // Requests of an adapter go on with its newest version; those whose adapter is gone, with what they have. REQUIRES: the
  // lock.
  void AdoptAdapters() {
    std::set<int64_t> served;
    for (const auto& [name, adapter] : adapters_) served.insert(adapter.id);
    for (const int64_t id : served_adapters_)
      if (!served.contains(id)) scheduler_.DropVersion(id);
    for (const int64_t id : served) scheduler_.AddVersion(id);
    served_adapters_ = std::move(served);
    for (const auto& [handle, request] : live_)
      if (const auto it = adapters_.find(request->request.adapter); it != adapters_.end()) {
        request->weights = it->second.weights;
        request->weights_id = it->second.id;
      }
  }

  void Loop() {
    c10::InferenceMode inference;
    while (true) {
      bool stop;
      {
        std::unique_lock lock(mutex_);
        wake_.wait(lock, [&] {
          return stopping_ || published_ || forget_prefixes_ || !submitted_.empty() ||
                 !cancelled_.empty() || scheduler_.num_running() + scheduler_.num_waiting() > 0;
        });
        stop = stopping_;
        if (published_) Adopt(std::move(published_));
        published_ = nullptr;
        if (std::exchange(forget_prefixes_, false)) scheduler_.ForgetPrefixes();
        for (auto& request : submitted_) {
          live_[request->handle] = request;
          scheduler_.Add(std::move(request));
        }
        submitted_.clear();
        if (std::exchange(adapters_changed_, false)) AdoptAdapters();
        for (RequestHandle handle : cancelled_)
          if (auto it = live_.find(handle); it != live_.end()) it->second->cancelled = true;
        cancelled_.clear();
      }
      for (auto& s : stop ? scheduler_.RemoveAll() : scheduler_.RemoveCancelled())
        Finish(std::move(s), FinishReason::kCancelled, "");
      if (stop) return;
      log_.Begin();
      const absl::Status status = TryTorch([&] { Iterate(); });
      if (!status.ok())
        for (auto& s : scheduler_.RemoveAll())
          Finish(std::move(s), FinishReason::kError, std::string(status.message()));
      if (options_.check_invariants) scheduler_.CheckInvariants();
      std::lock_guard lock(mutex_);
      log_.End(stats_);
      stats_.running = scheduler_.num_running();
      stats_.waiting = scheduler_.num_waiting();
      stats_.pages_used = scheduler_.pool().used();
      stats_.pages_cached = scheduler_.pool().idle();
      stats_.preemptions = scheduler_.num_preemptions();
      stats_.prefix_evictions = scheduler_.pool().num_reused();
    }
  }

  // The engine's weights for the requests that have no others.
  void PickWeights(std::vector<Scheduler::Work>& work) {
    for (const auto& w : work) {
      EngineRequest& owner = *w.sequence->owner;
      if (owner.weights_id != 0) continue;
      owner.weights = current_;
      if (owner.request.weight_policy == WeightPolicy::kFinish)
        owner.weights_id = scheduler_.version();
    }
    SortByWeights(work);
  }

  // One forward over everything the scheduler picked (one for each version of the base, should adapters or requests lag behind), then one
  // token for each sequence that is complete.
  void Iterate() {
    std::vector<Scheduler::Work> work = scheduler_.NextIteration();
    PickWeights(work);
    for (const auto& part : SplitByBase(work)) Compute(part);
  }

  void Compute(const std::vector<Scheduler::Work>& work) {
    ForwardPass forward(*model_, cache_, routes_, work, logits_);
    int64_t prefilled = 0;
    for (const auto& w : work) {
      if (w.sequence->needs_prefill())
        prefilled += w.count;
      else
        log_.Decoded(w.sequence->size());
      scheduler_.Computed(w);
    }
    log_.Prefilled(prefilled);
    CountTokens(prefilled, 0);
    const std::vector<EngineSequence*>& wanted = forward.wanted();
    const auto count = static_cast<int64_t>(wanted.size());
    for (int64_t begin = 0; begin < count; begin += forward.max_rows()) {
      const int64_t rows = std::min(forward.max_rows(), count - begin);
      const float* logits = forward.Logits(begin, rows);
      SampleRows({wanted.begin() + begin, wanted.begin() + begin + rows}, logits);
    }
  }

  void CountTokens(int64_t prefilled, int64_t sampled) {
    std::lock_guard lock(mutex_);
    stats_.tokens_prefilled += prefilled;
    stats_.tokens_sampled += sampled;
    stats_.prefix_hit_tokens = scheduler_.num_prefix_hit_tokens();
  }

  // Row i of the logits belongs to sequences[i]; a prompt forks into its samples, which all draw from the same row.
  void SampleRows(const std::vector<EngineSequence*>& sequences, const float* logits) {
    std::vector<Draw> draws;
    auto add = [&](EngineSequence* s, size_t row) {
      std::vector<uint32_t> allowed;
      if (s->owner->request.grammar || !s->owner->allowed_bits.empty()) {
        if (absl::Status status = NextAllowed(*s, current_->head.n, allowed); !status.ok())
          return Finish(scheduler_.Remove(s), FinishReason::kError, std::string(status.message()));
        else if (allowed.empty())  // the structure is complete
          return Finish(scheduler_.Remove(s), FinishReason::kStop, "");
      }
      draws.push_back({s, static_cast<int64_t>(row), std::move(allowed)});
    };
    std::vector<std::vector<uint8_t>>
        routes;  // by row, taken before a fork lets go of the prompt's pages
    for (size_t i = 0; i < sequences.size(); ++i) {
      routes.push_back(routes_.Last(*sequences[i]));
      if (sequences[i]->sample != EngineSequence::kPrompt)
        add(sequences[i], i);
      else
        for (EngineSequence* s : scheduler_.Fork(sequences[i])) add(s, i);
    }
    DrawTokens(draws, logits, current_->head.n);
    CountTokens(
        0, static_cast<int64_t>(draws.size()));  // before anyone learns of a finished completion
    for (Draw& d : draws) Append(d.sequence, d.token, std::move(d.top), routes[d.row]);
  }

  // What is known of the prompt once it has been computed.
  static void DescribePrompt(const EngineRequest& owner, Completion& c) {
    c.prompt_routes = owner.prompt_routes;
    c.prompt_logprobs = owner.prompt_logprobs;
    c.prompt_top_logprobs = owner.prompt_top_logprobs;
  }

  void Append(EngineSequence* s, const SampledToken& token, std::vector<TokenLogprob> top,
              const std::vector<uint8_t>& routes) {
    const SamplingParams& sampling = s->owner->request.sampling;
    Completion& c = s->completion;
    if (c.ids.empty()) DescribePrompt(*s->owner, c);
    s->tokens.push_back(token.id);
    c.ids.push_back(token.id);
    c.logprobs.push_back(token.logprob);
    c.sampling_logprobs.push_back(token.sampling_logprob);
    c.versions.push_back(s->owner->weights->version());
    if (sampling.num_top_logprobs > 0) c.top_logprobs.push_back(std::move(top));
    c.routes.insert(c.routes.end(), routes.begin(), routes.end());
    s->owner->sink->OnTokens(s->sample, c, c.ids.size() - 1);
    const auto count = static_cast<int64_t>(c.ids.size());
    const std::vector<TokenId>& ends = s->owner->end_ids;
    bool stop = std::find(ends.begin(), ends.end(), token.id) != ends.end();
    if (!sampling.stop_strings.empty())
      if (const std::string* found = s->stops.Add(codec_->token_bytes()[token.id])) {
        stop = true;
        if (count >= sampling.min_tokens) c.stop_string = *found;
      }
    if (stop && count >= sampling.min_tokens)
      Finish(scheduler_.Remove(s), FinishReason::kStop, "");
    else if (count >= sampling.max_tokens)
      Finish(scheduler_.Remove(s), FinishReason::kLength, "");
    else if (s->mask)
      if (const absl::Status status = s->mask->Accept(token.id); !status.ok())
        Finish(scheduler_.Remove(s), FinishReason::kError,
               absl::StrCat("grammar: ", status.message()));
  }

  // Delivers a sequence that the scheduler has let go of. A prompt that was never forked stands for all its samples.
  void Finish(std::unique_ptr<EngineSequence> s, FinishReason reason, const std::string& error) {
    const std::shared_ptr<EngineRequest> owner = s->owner;
    const bool is_prompt = s->sample == EngineSequence::kPrompt;
    const int32_t first = is_prompt ? 0 : s->sample,
                  last = is_prompt ? owner->request.num_samples - 1 : s->sample;
    if (s->completion.ids.empty()) DescribePrompt(*owner, s->completion);
    s->completion.finish_reason = reason;
    s->completion.error = error;
    {
      std::lock_guard lock(mutex_);
      unfinished_ -= last - first + 1;
      auto it = remaining_.find(owner->handle);
      it->second -= last - first + 1;
      if (it->second == 0) {
        remaining_.erase(it);
        live_.erase(owner->handle);
      }
    }
    for (int32_t i = first; i <= last; ++i) owner->sink->OnFinished(i, s->completion);
  }

  std::shared_ptr<CausalLm> model_;
  EngineOptions options_;
  std::shared_ptr<const TextCodec> codec_;
  std::shared_ptr<const ModelWeights> current_;  // the latest published
  PagedCache cache_;
  Scheduler scheduler_;
  RouteRecorder routes_;
  at::Tensor logits_;
  std::set<int64_t> served_adapters_;  // that the scheduler knows
  std::map<RequestHandle, std::shared_ptr<EngineRequest>> live_;

  mutable std::mutex mutex_;  // guards what follows
  std::condition_variable wake_;
  std::vector<std::shared_ptr<EngineRequest>> submitted_;
  std::vector<RequestHandle> cancelled_;
  std::shared_ptr<const ModelWeights> published_;
  std::map<std::string, Adapter> adapters_;
  std::map<RequestHandle, int64_t> remaining_;  // samples not yet finished, by request
  RequestHandle last_handle_ = 0;
  int64_t unfinished_ = 0;
  bool stopping_ = false, forget_prefixes_ = false, adapters_changed_ = false;
  int64_t last_weights_id_ = 1;  // of versions and adapters: no two have the same
  EngineStats stats_;
  IterationLog log_;  // of the iteration under way: the engine's thread's

  std::mutex join_mutex_;
  std::thread thread_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<InferenceEngine>> CreateLocalEngine(
    std::shared_ptr<CausalLm> model, const EngineOptions& options,
    std::shared_ptr<const TextCodec> codec) {
  if (!model->device().is_cpu())
    return absl::InvalidArgumentError(
        "engine: samples on the CPU; where a trainer is on another device, give it the trainer's "
        "sampler_model");
  if (options.max_batch < 1)
    return absl::InvalidArgumentError("engine.max_batch: must be at least 1");
  if (options.max_batch_tokens < options.max_batch)
    return absl::InvalidArgumentError("engine.max_batch_tokens: must be at least engine.max_batch");
  const int64_t page_bytes =
      PagedCache::PageBytes(model->config().num_layers, model->head_layout(), model->dtype());
  const int64_t num_pages =
      options.kv_memory_bytes / (page_bytes + kPageTokens * model->route_codec().token_bytes());
  if (num_pages < 2)
    return absl::InvalidArgumentError(
        absl::StrCat("engine.kv_memory_mb: a page of 16 tokens takes ", page_bytes,
                     " bytes for this model; give at least two pages"));
  KeepFreedMemory();
  return TryTorch([&]() -> std::unique_ptr<InferenceEngine> {
    return std::make_unique<LocalEngine>(std::move(model), options, std::move(codec), num_pages);
  });
}

namespace {
RFT_REGISTER_ENGINE("local", CreateLocalEngine);
}  // namespace

}  // namespace rft
