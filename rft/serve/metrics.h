// Counters and histograms of the server, in Prometheus' text format.
// Thread safety: all methods may be called from any thread.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <utility>

#include "rft/api/inference_engine.h"

namespace rft::serve {

// Seconds, in cumulative buckets.
class Histogram {
 public:
  static constexpr std::array<double, 12> kBounds = {0.005, 0.01, 0.025, 0.05, 0.1,  0.25,
                                                     0.5,   1.0,  2.5,   5.0,  10.0, 60.0};
  void Observe(double seconds);
  void Write(const std::string& name, const std::string& help, std::string* out) const;

 private:
  mutable std::mutex mutex_;
  std::array<int64_t, kBounds.size() + 1> counts_{};
  double sum_ = 0;
};

class Metrics {
 public:
  void CountRequest(const std::string& path, int status);
  // The whole text. `version`: of the weights; `connections`: open ones.
  std::string Text(const EngineStats& engine, int64_t version, bool paused) const;

  std::atomic<int64_t> prompt_tokens{0}, completion_tokens{0}, completions{0}, cancelled{0};
  std::atomic<int64_t> weight_updates{0};
  Histogram first_token_s, request_s;

 private:
  mutable std::mutex mutex_;
  std::map<std::pair<std::string, int>, int64_t>
      requests_;  // by path (a route, never the client's text) and status
};

}  // namespace rft::serve
