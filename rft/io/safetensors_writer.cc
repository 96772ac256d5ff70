#include "rft/io/safetensors_writer.h"

#include <limits>
#include <optional>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "rft/core/json_writer.h"
#include "rft/core/status_macros.h"
#include "rft/core/text.h"

namespace rft {
namespace {

absl::Status Wrong(const TensorToWrite& tensor, const std::string& what) {
  return absl::InvalidArgumentError(absl::StrCat("tensor ", JsonQuote(tensor.name), ": ", what));
}

absl::StatusOr<uint64_t> NumBytes(const TensorToWrite& tensor) {
  int64_t bytes = static_cast<int64_t>(TensorDtypeBytes(tensor.dtype));
  for (const int64_t dimension : tensor.shape) {
    if (dimension < 0) return Wrong(tensor, "negative dimension");
    if (__builtin_mul_overflow(bytes, dimension, &bytes))
      return Wrong(tensor, "shape is impossibly large");
  }
  return static_cast<uint64_t>(bytes);
}

absl::StatusOr<std::string> HeaderOf(absl::Span<const TensorToWrite> tensors,
                                     const SafetensorsWriteOptions& options) {
  JsonWriter w;
  w.BeginObject();
  if (!options.metadata.empty()) {
    w.Key("__metadata__");
    w.BeginObject();
    for (const auto& [key, value] : options.metadata) w.Key(key), w.String(value);
    w.EndObject();
  }
  uint64_t offset = 0;
  for (const TensorToWrite& tensor : tensors) {
    RFT_ASSIGN_OR_RETURN(const uint64_t bytes, NumBytes(tensor));
    w.Key(tensor.name);
    w.BeginObject();
    w.Key("dtype"), w.String(TensorDtypeName(tensor.dtype));
    w.Key("shape");
    w.BeginArray();
    for (const int64_t dimension : tensor.shape) w.Int(dimension);
    w.EndArray();
    w.Key("data_offsets");
    w.BeginArray();
    w.Uint(offset), w.Uint(offset + bytes);
    w.EndArray();
    w.EndObject();
    offset += bytes;
  }
  w.EndObject();
  std::string header = w.Take();
  header.append((8 - header.size() % 8) % 8, ' ');  // data starts aligned for every dtype
  return header;
}

absl::Status CheckNames(absl::Span<const TensorToWrite> tensors) {
  std::set<std::string> names;
  for (const TensorToWrite& tensor : tensors) {
    if (tensor.name.empty() || tensor.name == "__metadata__")
      return Wrong(tensor, "not a usable name");
    if (FindInvalidUtf8(tensor.name)) return Wrong(tensor, "the name is not UTF-8");
    if (!names.insert(tensor.name).second) return Wrong(tensor, "given twice");
  }
  return absl::OkStatus();
}

absl::Status WriteData(const TensorToWrite& tensor, WritableFile& file) {
  RFT_ASSIGN_OR_RETURN(const uint64_t expected, NumBytes(tensor));
  uint64_t written = 0;
  RFT_RETURN_IF_ERROR(tensor.write([&](absl::Span<const std::byte> part) {
    written += part.size();
    if (written > expected)
      return Wrong(tensor, absl::StrCat("more than its ", expected, " bytes were handed over"));
    return file.Append(std::string_view(reinterpret_cast<const char*>(part.data()), part.size()));
  }));
  return written == expected
             ? absl::OkStatus()
             : Wrong(tensor,
                     absl::StrCat(written, " bytes were handed over instead of ", expected));
}

std::string LengthPrefix(uint64_t length) {
  std::string bytes;
  for (int i = 0; i < 8; ++i) bytes += static_cast<char>(length >> (8 * i) & 0xFF);
  return bytes;
}

// Where each shard begins in `tensors`, and the end.
absl::StatusOr<std::vector<size_t>> SplitIntoShards(absl::Span<const TensorToWrite> tensors,
                                                    uint64_t max_shard_bytes, uint64_t* total) {
  std::vector<size_t> starts = {0};
  uint64_t in_shard = 0;
  *total = 0;
  for (size_t i = 0; i < tensors.size(); ++i) {
    RFT_ASSIGN_OR_RETURN(const uint64_t bytes, NumBytes(tensors[i]));
    if (i > starts.back() && in_shard + bytes > max_shard_bytes) {
      starts.push_back(i);
      in_shard = 0;
    }
    in_shard += bytes;
    *total += bytes;
  }
  starts.push_back(tensors.size());
  return starts;
}

}  // namespace

absl::Status WriteSafetensors(const std::string& path, absl::Span<const TensorToWrite> tensors,
                              const SafetensorsWriteOptions& options, FileSystem& fs) {
  RFT_RETURN_IF_ERROR(CheckNames(tensors));
  RFT_ASSIGN_OR_RETURN(const std::string header, HeaderOf(tensors, options));
  RFT_ASSIGN_OR_RETURN(std::unique_ptr<WritableFile> file, fs.NewWritableFile(path));
  RFT_RETURN_IF_ERROR(file->Append(LengthPrefix(header.size())));
  RFT_RETURN_IF_ERROR(file->Append(header));
  for (const TensorToWrite& tensor : tensors) RFT_RETURN_IF_ERROR(WriteData(tensor, *file));
  RFT_RETURN_IF_ERROR(file->Sync());
  return file->Close();
}

absl::StatusOr<std::vector<std::string>> WriteModelWeights(const std::string& dir,
                                                           absl::Span<const TensorToWrite> tensors,
                                                           const SafetensorsWriteOptions& options,
                                                           FileSystem& fs) {
  RFT_RETURN_IF_ERROR(CheckNames(tensors));  // over all shards
  uint64_t total = 0;
  RFT_ASSIGN_OR_RETURN(const std::vector<size_t> starts,
                       SplitIntoShards(tensors, options.max_shard_bytes, &total));
  const size_t num_shards = starts.size() - 1;
  if (num_shards == 1) {
    RFT_RETURN_IF_ERROR(WriteSafetensors(JoinPath(dir, "model.safetensors"), tensors, options, fs));
    return std::vector<std::string>{"model.safetensors"};
  }
  std::vector<std::string> files;
  JsonWriter index(2);
  index.BeginObject();
  index.Key("metadata"), index.Raw(absl::StrCat("{\"total_size\": ", total, "}"));
  index.Key("weight_map");
  index.BeginObject();
  for (size_t s = 0; s < num_shards; ++s) {
    files.push_back(absl::StrFormat("model-%05d-of-%05d.safetensors", s + 1, num_shards));
    const auto shard = tensors.subspan(starts[s], starts[s + 1] - starts[s]);
    RFT_RETURN_IF_ERROR(WriteSafetensors(JoinPath(dir, files.back()), shard, options, fs));
    for (const TensorToWrite& tensor : shard) index.Key(tensor.name), index.String(files.back());
  }
  index.EndObject();
  index.EndObject();
  files.push_back("model.safetensors.index.json");
  RFT_RETURN_IF_ERROR(WriteFile(fs, JoinPath(dir, files.back()), index.Take() + "\n"));
  return files;
}

}  // namespace rft
