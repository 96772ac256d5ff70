// Checkpoints whose linear layers are stored quantised, read into float32.
//
//   fp8 (DeepSeek-V3, MiniMax-M2)   X.weight F8_E4M3 [N, K], X.weight_scale_inv [ceil(N / rows), ceil(K / columns)]:
//                                   a value times its block's scale
//   int4 (Kimi-K2.5)                X.weight_packed I32 [N, K / 8], eight values + 8 in each, lowest bits first;
//                                   X.weight_scale [N, K / columns]: a value times its group's scale
// Scales are F32, BF16 or F16. What is not quantised (norms, routers, heads, ...) is stored as in any other checkpoint.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "rft/io/json.h"
#include "rft/io/safetensors.h"

namespace rft {

struct StoredQuantization {
  enum class Kind { kFp8Blocks, kInt4Groups };
  Kind kind = Kind::kFp8Blocks;
  int64_t block_rows = 1, block_columns = 1;  // that share a scale
};

// The quantization_config of a config.json. kInvalidArgument naming the key for another method than the two above.
absl::StatusOr<StoredQuantization> ReadQuantization(const json::value& config);

// Fills `out` (row-major float32 of `shape`) if the checkpoint has the tensor `name` quantised; false if it has not.
// kInvalidArgument for shapes that don't fit or a value that is not finite, kNotFound for a missing scale.
absl::StatusOr<bool> LoadQuantized(const TensorMap& tensors, const StoredQuantization& quantization,
                                   const std::string& name, const std::vector<int64_t>& shape,
                                   absl::Span<float> out);

}  // namespace rft
