// Time, injectable. Durations and deadlines use the steady clock; wall time is only ever printed.
// Thread safety: Clock::Default() may be used from any thread; ManualClock too.
#pragma once

#include <atomic>
#include <chrono>
#include <string>

#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace rft {

class Clock {
 public:
  virtual ~Clock() = default;

  // Seconds since an arbitrary start; never goes back.
  virtual double NowSeconds() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch())
        .count();
  }

  // "2025-01-31T12:03:55Z"
  virtual std::string WallIso() const {
    return absl::FormatTime("%Y-%m-%dT%H:%M:%SZ", absl::Now(), absl::UTCTimeZone());
  }

  // The machine's own. Lives for the whole program.
  static Clock& Default() {
    static Clock* clock = new Clock;
    return *clock;
  }
};

// Stands still until it is told to move: for tests.
class ManualClock : public Clock {
 public:
  double NowSeconds() const override { return now_s_.load(); }
  std::string WallIso() const override {
    return absl::FormatTime("%Y-%m-%dT%H:%M:%SZ",
                            absl::FromUnixMillis(static_cast<int64_t>(now_s_.load() * 1e3)),
                            absl::UTCTimeZone());
  }
  void Advance(double seconds) { now_s_.store(now_s_.load() + seconds); }

 private:
  std::atomic<double> now_s_{0.0};
};

}  // namespace rft
