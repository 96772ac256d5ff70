#include "rft/serve/metrics.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "rft/core/text.h"

namespace rft::serve {
namespace {

void Head(const std::string& name, const char* type, const std::string& help, std::string* out) {
  absl::StrAppend(out, "# HELP ", name, " ", help, "\n# TYPE ", name, " ", type, "\n");
}

void One(const std::string& name, const char* type, const std::string& help, double value,
         std::string* out) {
  Head(name, type, help, out);
  absl::StrAppend(out, name, " ", ShortestDouble(value), "\n");
}

}  // namespace

void Histogram::Observe(double seconds) {
  const size_t bucket = static_cast<size_t>(
      std::lower_bound(kBounds.begin(), kBounds.end(), seconds) - kBounds.begin());
  std::lock_guard<std::mutex> lock(mutex_);
  ++counts_[bucket];
  sum_ += seconds;
}

void Histogram::Write(const std::string& name, const std::string& help, std::string* out) const {
  std::lock_guard<std::mutex> lock(mutex_);
  Head(name, "histogram", help, out);
  int64_t total = 0;
  for (size_t i = 0; i < counts_.size(); ++i) {
    total += counts_[i];
    const std::string bound = i < kBounds.size() ? ShortestDouble(kBounds[i]) : "+Inf";
    absl::StrAppend(out, name, "_bucket{le=\"", bound, "\"} ", total, "\n");
  }
  absl::StrAppend(out, name, "_sum ", ShortestDouble(sum_), "\n", name, "_count ", total, "\n");
}

void Metrics::CountRequest(const std::string& path, int status) {
  std::lock_guard<std::mutex> lock(mutex_);
  ++requests_[{path, status}];
}

std::string Metrics::Text(const EngineStats& e, int64_t version, bool paused) const {
  std::string out;
  Head("rft_requests_total", "counter", "HTTP requests by route and status.", &out);
  {
    std::lock_guard<std::mutex> lock(mutex_);
    for (const auto& [key, count] : requests_)
      absl::StrAppend(&out, "rft_requests_total{path=\"", key.first, "\",status=\"", key.second,
                      "\"} ", count, "\n");
  }
  const auto counter = [&](const char* name, const char* help, int64_t value) {
    One(name, "counter", help, static_cast<double>(value), &out);
  };
  const auto gauge = [&](const char* name, const char* help, int64_t value) {
    One(name, "gauge", help, static_cast<double>(value), &out);
  };
  counter("rft_prompt_tokens_total", "Tokens of the prompts served.", prompt_tokens);
  counter("rft_completion_tokens_total", "Tokens of the completions served.", completion_tokens);
  counter("rft_completions_total", "Completions served.", completions);
  counter("rft_completions_cancelled_total",
          "Completions that ended early: client gone, pause, shutdown.", cancelled);
  counter("rft_weight_updates_total", "Weight versions published over HTTP.", weight_updates);
  counter("rft_engine_tokens_sampled_total", "Tokens the engine has sampled.", e.tokens_sampled);
  counter("rft_engine_tokens_prefilled_total", "Prompt tokens the engine has computed.",
          e.tokens_prefilled);
  counter("rft_engine_iterations_total", "Iterations of the engine.", e.iterations);
  counter("rft_engine_preemptions_total", "Sequences preempted for lack of pages.", e.preemptions);
  One("rft_engine_busy_seconds_total", "counter", "Time inside iterations.", e.busy_s, &out);
  for (const auto& [kind, seconds] : {std::pair<const char*, double>{"matmul", e.matmul_s},
                                      {"attention", e.attention_s},
                                      {"rowwise", e.rowwise_s},
                                      {"sampling", e.sampling_s}})
    One(absl::StrCat("rft_engine_", kind, "_seconds_total"), "counter",
        "Of that, inside these kernels.", seconds, &out);
  gauge("rft_engine_running", "Sequences in the batch.", e.running);
  gauge("rft_engine_waiting", "Requests not yet admitted.", e.waiting);
  gauge("rft_engine_pages_used", "Pages of the state cache in use.", e.pages_used);
  gauge("rft_engine_pages_cached", "Pages kept for later prompts.", e.pages_cached);
  counter("rft_engine_prefix_hit_tokens_total", "Prompt tokens that were cached.",
          e.prefix_hit_tokens);
  gauge("rft_engine_pages", "Pages of the state cache.", e.pages_total);
  gauge("rft_weight_version", "Version of the weights.", version);
  gauge("rft_paused", "1 while new requests are held.", paused ? 1 : 0);
  first_token_s.Write("rft_time_to_first_token_seconds", "From the request to its first token.",
                      &out);
  request_s.Write("rft_request_seconds", "From the request to the end of its answer.", &out);
  return out;
}

}  // namespace rft::serve
