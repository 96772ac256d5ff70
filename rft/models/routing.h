// What a forward is told about routing and what it tells: experts to replay in, experts used out. One object per forward.
//
// Shapes: T tokens of the forward, M mixture-of-experts layers in order (dense ones aren't counted), K experts per token.
#pragma once

#include <ATen/core/Tensor.h>

namespace rft {

struct Routing {
  // In: int32 [T, M, K], ascending in each row: experts to use instead of the router's choice. Their gate weights are
  // computed from the current logits, so the router still gets its gradient. A row that starts with -1 is the router's own
  // choice; undefined: all are.
  at::Tensor replay_TMK;
  // Out, if `capture`: int32 [T, M, K], the experts used, ascending in each row.
  bool capture = false;
  at::Tensor used_TMK;
};

}  // namespace rft
