// Reads weights: one .safetensors file, or the folder of a model (single file or sharded with an
// index).
//
// Files are mapped, not copied; the header is checked in full before anything else is allocated:
// its length (100 MB at most), every dtype, shape and byte range; ranges must fill the data
// exactly, without holes or overlaps (the rules of huggingface/safetensors,
// safetensors/src/tensor.rs, `validate`). Pickle files (.bin, .pt, .pth, .ckpt) are refused. Thread
// safety: everything here is read-only after opening. Errors: kInvalidArgument names the file and
// the tensor.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "rft/core/file_system.h"

namespace rft {

enum class TensorDtype {
  kBool,
  kU8,
  kI8,
  kF8E5M2,
  kF8E4M3,
  kI16,
  kU16,
  kF16,
  kBF16,
  kI32,
  kU32,
  kF32,
  kI64,
  kU64,
  kF64
};

const char* TensorDtypeName(TensorDtype dtype);  // "BF16": the format's own word
size_t TensorDtypeBytes(TensorDtype dtype);

// A tensor inside a mapped file. `bytes` (little endian, row-major) stays valid while `owner`
// lives. It starts wherever the file says: usually, but not necessarily, aligned for its dtype.
struct TensorView {
  TensorDtype dtype = TensorDtype::kF32;
  std::vector<int64_t> shape;  // {} = a scalar
  absl::Span<const std::byte> bytes;
  std::shared_ptr<const MappedFile> owner;
};

using TensorMap = std::map<std::string, TensorView>;

struct SafetensorsFile {
  TensorMap tensors;
  std::map<std::string, std::string> metadata;  // the header's "__metadata__"
};

// kNotFound and others if the file can't be mapped.
absl::StatusOr<SafetensorsFile> OpenSafetensors(const std::string& path,
                                                FileSystem& fs = FileSystem::Default());

// All tensors of a Hugging Face folder: model.safetensors.index.json with its shards, or
// model.safetensors, or the only *.safetensors there is. kNotFound names a missing shard, or says
// what the folder holds instead of safetensors; kInvalidArgument if the index names a file outside
// the folder or a tensor its shard doesn't have.
absl::StatusOr<TensorMap> OpenModelWeights(const std::string& dir,
                                           FileSystem& fs = FileSystem::Default());

// The tensor called `name`. kNotFound: "missing tensor model.norm.weight", with a similar name if
// there is one.
absl::StatusOr<TensorView> FindTensor(const TensorMap& tensors, const std::string& name);

}  // namespace rft
