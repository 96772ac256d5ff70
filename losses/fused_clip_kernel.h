// The arithmetic of fused_clip.h on plain arrays; no torch.
//
// Inactive tokens (mask <= 0) are read as zeros, get gradient 0 and count nowhere. A token's
// gradient is d sum / d lp. Compiled for several instruction sets, chosen at run time.
#pragma once

#include <cstdint>
#include <limits>

#include "rft/core/loss_config.h"

namespace rft {

template <typename T>
struct FusedClipArrays {
  const T* logprobs;
  const T* old_logprobs;
  const T* sampling_logprobs;  // null: equal to old_logprobs
  const T* ref_logprobs;       // null: none
  const T* advantages;
  const T* mask;
  const int64_t* row_offsets;  // R + 1
  T* gradient;
};

// Sums over active tokens, extremes over active tokens.
struct FusedClipTotals {
  double sum = 0.0, num_tokens = 0.0, num_rows = 0.0;
  double ratio = 0.0, clip = 0.0, clip_low = 0.0, clip_high = 0.0, outside = 0.0, dual = 0.0;
  double live = 0.0;
  double weight = 0.0, weight_sq = 0.0, weight_changed = 0.0;
  double moved = 0.0, moved_k3 = 0.0;  // lp - old
  double mismatch = 0.0, mismatch_k3 = 0.0, mismatch_abs = 0.0;
  double ref_k1 = 0.0, ref_k2 = 0.0, ref_k3 = 0.0;
  double ratio_min = std::numeric_limits<double>::infinity();
  double ratio_max = -std::numeric_limits<double>::infinity();
  double weight_max = -std::numeric_limits<double>::infinity();
  double mismatch_max = -std::numeric_limits<double>::infinity();

  void Add(const FusedClipTotals& other);
};

// Rows [first_row, last_row).
template <typename T>
FusedClipTotals RunFusedClip(const FusedClipArrays<T>& arrays, const LossConfig& config,
                             int64_t first_row, int64_t last_row);

}  // namespace rft
