// Writes weights as safetensors: one file, or shards with an index. Data is asked for tensor by
// tensor and streamed, so no second copy of the model is needed. Not atomic: write into a
// FolderCommit (manifest.h).
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "rft/core/file_system.h"
#include "rft/io/safetensors.h"

namespace rft {

// Receives a part of a tensor's bytes, in order.
using ByteSink = std::function<absl::Status(absl::Span<const std::byte>)>;

struct TensorToWrite {
  std::string name;
  TensorDtype dtype = TensorDtype::kF32;
  std::vector<int64_t> shape;
  // Hands all bytes (little endian, row-major) to the sink, in one or more parts. Called once.
  std::function<absl::Status(const ByteSink&)> write;
};

struct SafetensorsWriteOptions {
  std::map<std::string, std::string> metadata = {
      {"format", "pt"}};  // transformers refuses files without it
  uint64_t max_shard_bytes =
      uint64_t{5} << 30;  // of tensor data; a single larger tensor gets a shard of its own
};

// Tensors keep their order. kInvalidArgument for a duplicate or reserved name, a negative
// dimension, or a `write` that handed over more or fewer bytes than dtype and shape need (the
// message names the tensor).
absl::Status WriteSafetensors(const std::string& path, absl::Span<const TensorToWrite> tensors,
                              const SafetensorsWriteOptions& options = {},
                              FileSystem& fs = FileSystem::Default());

// model.safetensors, or model-00001-of-00003.safetensors ... with model.safetensors.index.json, in
// an existing folder. Returns the names of the files written.
absl::StatusOr<std::vector<std::string>> WriteModelWeights(
    const std::string& dir, absl::Span<const TensorToWrite> tensors,
    const SafetensorsWriteOptions& options = {}, FileSystem& fs = FileSystem::Default());

}  // namespace rft
