#include "rft/io/safetensors.h"

#include <algorithm>
#include <array>
#include <limits>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "rft/core/status_macros.h"
#include "rft/core/text.h"
#include "rft/io/json.h"
#include "rft/io/safe_path.h"

namespace rft {
namespace {

constexpr uint64_t kMaxHeaderBytes = 100'000'000;
constexpr size_t kLengthBytes = 8;
constexpr char kIndexName[] = "model.safetensors.index.json";
constexpr char kSingleName[] = "model.safetensors";

struct DtypeInfo {
  const char* name;
  size_t bytes;
};
// In the order of TensorDtype.
constexpr std::array<DtypeInfo, 15> kDtypes = {{{"BOOL", 1},
                                                {"U8", 1},
                                                {"I8", 1},
                                                {"F8_E5M2", 1},
                                                {"F8_E4M3", 1},
                                                {"I16", 2},
                                                {"U16", 2},
                                                {"F16", 2},
                                                {"BF16", 2},
                                                {"I32", 4},
                                                {"U32", 4},
                                                {"F32", 4},
                                                {"I64", 8},
                                                {"U64", 8},
                                                {"F64", 8}}};

absl::StatusOr<TensorDtype> ParseDtype(const std::string& name) {
  for (size_t i = 0; i < kDtypes.size(); ++i) {
    if (name == kDtypes[i].name) return static_cast<TensorDtype>(i);
  }
  return absl::InvalidArgumentError(absl::StrCat("dtype ", JsonQuote(name), " is not known"));
}

bool LooksLikePickle(std::string_view path) {
  return path.ends_with(".bin") || path.ends_with(".pt") || path.ends_with(".pth") ||
         path.ends_with(".ckpt");
}

// a * b, or nullopt when that exceeds int64 (sizes beyond it can't be right).
std::optional<uint64_t> Multiply(uint64_t a, uint64_t b) {
  uint64_t product = 0;
  if (__builtin_mul_overflow(a, b, &product)) return std::nullopt;
  if (product > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) return std::nullopt;
  return product;
}

struct Entry {
  std::string name;
  TensorDtype dtype;
  std::vector<int64_t> shape;
  uint64_t begin = 0, end = 0;  // bytes, from the end of the header
};

absl::StatusOr<uint64_t> Unsigned(const json::value& value, const char* what) {
  if (!value.is_int64() || value.get_int64() < 0) {
    return absl::InvalidArgumentError(
        absl::StrCat(what, " must be a whole number that is not negative"));
  }
  return static_cast<uint64_t>(value.get_int64());
}

absl::StatusOr<Entry> ParseEntry(const json::value& value, uint64_t data_bytes) {
  if (!value.is_object())
    return absl::InvalidArgumentError("must be an object with dtype, shape and data_offsets");
  const json::object& object = value.get_object();
  Entry entry;
  RFT_ASSIGN_OR_RETURN(const std::string dtype, GetString(object, "dtype"));
  RFT_ASSIGN_OR_RETURN(entry.dtype, ParseDtype(dtype));
  RFT_ASSIGN_OR_RETURN(const json::array* shape, GetArray(object, "shape"));
  std::optional<uint64_t> bytes = TensorDtypeBytes(entry.dtype);
  for (const json::value& item : *shape) {
    RFT_ASSIGN_OR_RETURN(const uint64_t dimension, Unsigned(item, "each entry of shape"));
    entry.shape.push_back(static_cast<int64_t>(dimension));
    bytes = Multiply(*bytes, dimension);
    if (!bytes) return absl::InvalidArgumentError("shape is impossibly large");
  }
  RFT_ASSIGN_OR_RETURN(const json::array* offsets, GetArray(object, "data_offsets"));
  if (offsets->size() != 2) return absl::InvalidArgumentError("data_offsets must be [begin, end]");
  RFT_ASSIGN_OR_RETURN(entry.begin, Unsigned((*offsets)[0], "data_offsets"));
  RFT_ASSIGN_OR_RETURN(entry.end, Unsigned((*offsets)[1], "data_offsets"));
  if (entry.begin > entry.end || entry.end > data_bytes) {
    return absl::InvalidArgumentError(absl::StrCat("data_offsets [", entry.begin, ", ", entry.end,
                                                   "] are outside the file's ", data_bytes,
                                                   " bytes of data"));
  }
  if (entry.end - entry.begin != *bytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("data_offsets hold ", entry.end - entry.begin, " bytes, but ", dtype, " [",
                     absl::StrJoin(entry.shape, ", "), "] needs ", *bytes));
  }
  return entry;
}

// The byte ranges, in order, must fill [0, data_bytes) exactly.
absl::Status CheckRanges(std::vector<Entry>* entries, uint64_t data_bytes) {
  std::sort(entries->begin(), entries->end(), [](const Entry& a, const Entry& b) {
    return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
  });
  uint64_t filled = 0;
  for (const Entry& entry : *entries) {
    if (entry.begin != filled) {
      return absl::InvalidArgumentError(absl::StrCat(
          "tensor ", JsonQuote(entry.name), ": ",
          entry.begin < filled ? "overlaps another tensor" : "follows a hole in the data",
          " (it begins at byte ", entry.begin, ", expected ", filled, ")"));
    }
    filled = entry.end;
  }
  if (filled != data_bytes) {
    return absl::InvalidArgumentError(
        absl::StrCat(data_bytes - filled, " bytes at the end belong to no tensor"));
  }
  return absl::OkStatus();
}

absl::Status ParseMetadata(const json::value& value, std::map<std::string, std::string>* metadata) {
  if (!value.is_object()) return absl::InvalidArgumentError("__metadata__ must be an object");
  for (const json::key_value_pair& member : value.get_object()) {
    const std::string key(member.key().data(), member.key().size());
    RFT_ASSIGN_OR_RETURN((*metadata)[key], GetString(value.get_object(), key));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<Entry>> ParseHeader(std::string_view header, uint64_t data_bytes,
                                               std::map<std::string, std::string>* metadata) {
  if (!header.starts_with('{'))
    return absl::InvalidArgumentError("the header does not begin with '{'");
  JsonLimits limits;
  limits.max_bytes = kMaxHeaderBytes;
  limits.max_depth = 8;
  limits.reject_duplicate_keys = true;
  absl::StatusOr<json::value> value = ParseJson(header, limits);
  if (!value.ok())
    return absl::InvalidArgumentError(
        absl::StrCat("header: ", std::string(value.status().message())));
  std::vector<Entry> entries;
  for (const json::key_value_pair& member : value->get_object()) {
    const std::string name(member.key().data(), member.key().size());
    if (name == "__metadata__") {
      RFT_RETURN_IF_ERROR(ParseMetadata(member.value(), metadata));
      continue;
    }
    absl::StatusOr<Entry> entry = ParseEntry(member.value(), data_bytes);
    if (!entry.ok()) {
      return absl::InvalidArgumentError(
          absl::StrCat("tensor ", JsonQuote(name), ": ", std::string(entry.status().message())));
    }
    entry->name = name;
    entries.push_back(*std::move(entry));
  }
  RFT_RETURN_IF_ERROR(CheckRanges(&entries, data_bytes));
  return entries;
}

absl::StatusOr<SafetensorsFile> ParseFile(std::shared_ptr<const MappedFile> file) {
  const std::string_view bytes(file->data(), file->size());
  if (bytes.size() < kLengthBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("only ", bytes.size(), " bytes; not a safetensors file (cut off?)"));
  }
  uint64_t header_bytes = 0;
  for (size_t i = kLengthBytes; i-- > 0;)
    header_bytes = header_bytes << 8 | static_cast<uint8_t>(bytes[i]);
  if (header_bytes > kMaxHeaderBytes) {
    return absl::InvalidArgumentError(absl::StrCat("header of ", header_bytes, " bytes; at most ",
                                                   kMaxHeaderBytes,
                                                   " are allowed (is this a safetensors file?)"));
  }
  if (header_bytes > bytes.size() - kLengthBytes) {
    return absl::InvalidArgumentError(absl::StrCat("the header needs ", header_bytes,
                                                   " bytes, the file has ",
                                                   bytes.size() - kLengthBytes, " (cut off?)"));
  }
  const std::string_view data = bytes.substr(kLengthBytes + header_bytes);
  SafetensorsFile result;
  RFT_ASSIGN_OR_RETURN(
      std::vector<Entry> entries,
      ParseHeader(bytes.substr(kLengthBytes, header_bytes), data.size(), &result.metadata));
  for (Entry& entry : entries) {
    const auto* begin = reinterpret_cast<const std::byte*>(data.data()) + entry.begin;
    result.tensors[entry.name] = {
        entry.dtype, std::move(entry.shape), {begin, entry.end - entry.begin}, file};
  }
  return result;
}

// tensor name -> shard file name.
absl::StatusOr<std::map<std::string, std::string>> ReadIndex(const std::string& path,
                                                             FileSystem& fs) {
  RFT_ASSIGN_OR_RETURN(const std::string text, fs.ReadFile(path));
  const auto wrong = [&](const std::string& what) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": ", what));
  };
  JsonLimits limits;
  limits.reject_duplicate_keys = true;
  const absl::StatusOr<json::value> value = ParseJson(text, limits);
  if (!value.ok()) return wrong(std::string(value.status().message()));
  if (!value->is_object()) return wrong("must be a JSON object");
  const absl::StatusOr<const json::object*> weight_map =
      GetObject(value->get_object(), "weight_map");
  if (!weight_map.ok()) return wrong(std::string(weight_map.status().message()));
  std::map<std::string, std::string> shards;
  for (const json::key_value_pair& member : **weight_map) {
    const std::string name(member.key().data(), member.key().size());
    const absl::StatusOr<std::string> shard = GetString(**weight_map, name);
    if (!shard.ok())
      return wrong(absl::StrCat("weight_map: ", std::string(shard.status().message())));
    if (!IsSafeRelativePath(*shard)) {
      return wrong(absl::StrCat("weight_map: ", JsonQuote(name), ": the shard ", JsonQuote(*shard),
                                " is outside the folder; refused"));
    }
    shards[name] = *shard;
  }
  return shards;
}

absl::StatusOr<TensorMap> OpenShards(const std::string& dir, FileSystem& fs) {
  const std::string index_path = JoinPath(dir, kIndexName);
  RFT_ASSIGN_OR_RETURN(const auto weight_map, ReadIndex(index_path, fs));
  std::map<std::string, SafetensorsFile> shards;
  TensorMap tensors;
  for (const auto& [name, shard] : weight_map) {
    if (!shards.contains(shard)) {
      const std::string path = JoinPath(dir, shard);
      if (!fs.Exists(path))
        return absl::NotFoundError(
            absl::StrCat(path, ": this shard is missing (named by ", index_path, ")"));
      RFT_ASSIGN_OR_RETURN(shards[shard], OpenSafetensors(path, fs));
    }
    const TensorMap& in_shard = shards[shard].tensors;
    const auto it = in_shard.find(name);
    if (it == in_shard.end()) {
      return absl::InvalidArgumentError(
          absl::StrCat(index_path, ": the shard ", shard, " does not hold the tensor ", name));
    }
    tensors.insert(*it);
  }
  return tensors;
}

// What to open where there is neither an index nor model.safetensors.
absl::StatusOr<std::string> OnlySafetensors(const std::string& dir, FileSystem& fs) {
  RFT_ASSIGN_OR_RETURN(const std::vector<std::string> names, fs.ListDir(dir));
  std::vector<std::string> found, pickles;
  for (const std::string& name : names) {
    if (name.ends_with(".safetensors")) found.push_back(name);
    if (LooksLikePickle(name)) pickles.push_back(name);
  }
  if (found.size() == 1) return found[0];
  if (found.size() > 1) {
    return absl::NotFoundError(absl::StrCat(dir, ": several .safetensors files (",
                                            absl::StrJoin(found, ", "), "), but no ", kIndexName));
  }
  return absl::NotFoundError(absl::StrCat(
      dir, ": no safetensors weights",
      pickles.empty() ? ""
                      : absl::StrCat(" (", absl::StrJoin(pickles, ", "),
                                     " can run code when it is loaded and is never read; save the "
                                     "model again with safe_serialization=True)")));
}

}  // namespace

const char* TensorDtypeName(TensorDtype dtype) { return kDtypes[static_cast<size_t>(dtype)].name; }
size_t TensorDtypeBytes(TensorDtype dtype) { return kDtypes[static_cast<size_t>(dtype)].bytes; }

absl::StatusOr<SafetensorsFile> OpenSafetensors(const std::string& path, FileSystem& fs) {
  if (LooksLikePickle(path)) {
    return absl::InvalidArgumentError(
        absl::StrCat(path,
                     ": pickle files can run code when they are loaded and are never read; convert "
                     "to .safetensors"));
  }
  RFT_ASSIGN_OR_RETURN(std::shared_ptr<const MappedFile> file, fs.Map(path));
  absl::StatusOr<SafetensorsFile> result = ParseFile(std::move(file));
  if (!result.ok())
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": ", std::string(result.status().message())));
  return result;
}

absl::StatusOr<TensorMap> OpenModelWeights(const std::string& dir, FileSystem& fs) {
  if (!fs.IsDirectory(dir)) return absl::NotFoundError(absl::StrCat(dir, ": no such folder"));
  if (fs.Exists(JoinPath(dir, kIndexName))) return OpenShards(dir, fs);
  std::string name = kSingleName;
  if (!fs.Exists(JoinPath(dir, name))) {
    RFT_ASSIGN_OR_RETURN(name, OnlySafetensors(dir, fs));
  }
  RFT_ASSIGN_OR_RETURN(SafetensorsFile file, OpenSafetensors(JoinPath(dir, name), fs));
  return std::move(file.tensors);
}

absl::StatusOr<TensorView> FindTensor(const TensorMap& tensors, const std::string& name) {
  const auto it = tensors.find(name);
  if (it != tensors.end()) return it->second;
  std::vector<std::string> names;
  for (const auto& [known, view] : tensors) names.push_back(known);
  const auto similar = DidYouMean(name, names);
  return absl::NotFoundError(absl::StrCat(
      "missing tensor ", name, similar ? absl::StrCat(" (there is ", *similar, ")") : ""));
}

}  // namespace rft
