// Heads of one row of a fused attention projection: [q heads | k heads | v heads], each of head_dim values. Torch-free.
#pragma once

#include <cstdint>

namespace rft {

struct HeadLayout {
  int64_t num_heads = 0, num_kv_heads = 0, head_dim = 0;
  int64_t width() const { return (num_heads + 2 * num_kv_heads) * head_dim; }
};

}  // namespace rft
