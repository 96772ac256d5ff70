// Heads of one row of a fused attention projection: [q heads | k heads | v heads], each of head_dim values. Torch-free.
#pragma once

#include <cstdint>

namespace rft {

struct HeadLayout {
  int64_t num_heads = 0, num_kv_heads = 0, head_dim = 0;
  int64_t window = 0;  // keys that a token attends to, its own included; 0 = all before it
  int64_t index_dim =
      0;  // of the key by which tokens find the keys they attend to; 0 = they attend to all (key_selection.h)
  // The first key that is visible at `position`.
  int64_t FirstKey(int64_t position) const {
    return window > 0 && position + 1 > window ? position + 1 - window : 0;
  }
  int64_t width() const { return (num_heads + 2 * num_kv_heads) * head_dim; }
};

}  // namespace rft
