// Routing capture: every cached position of a mixture of experts keeps its experts beside its keys and values, so that forks,
// shared prefixes, copies and evictions of pages take care of them, too. Engine's thread only.
#pragma once

#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>

#include "rft/core/routes.h"
#include "rft/engine/paged_cache.h"
#include "rft/engine/scheduler.h"

namespace rft {

class RouteRecorder {
 public:
  // `cache` (made with codec.token_bytes()) must outlive it.
  RouteRecorder(RouteCodec codec, PagedCache& cache) : codec_(codec), cache_(cache) {}

  bool enabled() const { return codec_.token_bytes() > 0; }  // false: a dense model

  // used_TMK: of the forward of `work`, int32, before Scheduler::Computed.
  void Store(const std::vector<Scheduler::Work>& work, const at::Tensor& used_TMK);

  // Packed routing of the position that predicts the next token; empty if the request doesn't want it. Taken when the token is
  // drawn: what was used then is what counts, even if the position is computed again later. Of a prompt that is about to be
  // forked, the request's prompt_routes are filled on the way.
  std::vector<uint8_t> Last(const EngineSequence& sequence);

 private:
  uint8_t* At(const EngineSequence& sequence, int64_t position);

  const RouteCodec codec_;
  PagedCache& cache_;
};

}  // namespace rft
