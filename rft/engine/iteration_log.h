// What the latest iterations computed and where their time went (EngineStats, IterationCost). Used by the engine's thread,
// whose time in kernels it reads; the caller guards what others read.
#pragma once

#include <cstdint>
#include <deque>
#include <vector>

#include "rft/api/inference_engine.h"

namespace rft {

class IterationLog {
 public:
  // An iteration begins.
  void Begin();
  // What it computes.
  void Prefilled(int64_t tokens) { now_.prefill_tokens += tokens; }
  void Decoded(int64_t keys) {
    ++now_.decode_tokens;
    now_.decode_keys += keys;
  }
  // It is over: adds it to `stats` and to the list. Nothing is listed of an iteration that computed nothing.
  void End(EngineStats& stats);

  std::vector<IterationCost> Recent() const { return {recent_.begin(), recent_.end()}; }

 private:
  double start_s_ = 0.0;
  IterationCost before_, now_;
  std::deque<IterationCost> recent_;  // oldest first
};

}  // namespace rft
