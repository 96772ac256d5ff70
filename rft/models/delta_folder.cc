#include "rft/models/delta_folder.h"

#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include <ATen/ops/empty_like.h>

#include "absl/strings/str_cat.h"
#include "rft/core/file_system.h"
#include "rft/core/status_macros.h"
#include "rft/io/json.h"
#include "rft/io/safetensors.h"
#include "rft/io/safetensors_writer.h"
#include "rft/models/hf_folder_internal.h"
#include "rft/models/stacked_experts.h"
#include "rft/tensor/bf16.h"
#include "rft/tensor/dispatch.h"
#include "rft/tensor/try_torch.h"

namespace rft {
namespace {

constexpr char kFormat[] = "rft-delta-1";
constexpr char kInfoFile[] = "delta.json";
constexpr char kWeightsFile[] = "delta.safetensors";

std::string PositionsName(const Parameter& p) { return absl::StrCat(p.name, ".positions"); }
std::string ValuesName(const Parameter& p) { return absl::StrCat(p.name, ".values"); }

// A hash of bf16 values in order, against mistakes, not against an attacker.
class Checksum {
 public:
  void Add(uint16_t bits) { state_ = (state_ ^ bits) * 0x9E3779B97F4A7C15u; }
  std::string Text() const { return absl::StrCat(absl::Hex(state_, absl::kZeroPad16)); }

 private:
  uint64_t state_ = 0xCBF29CE484222325u;
};

uint16_t Rounded(float x) { return FromFloat<Bf16>(x).bits; }

// What a parameter has that its base has not.
struct Change {
  std::vector<uint32_t> positions;
  std::vector<uint16_t> values;
};

template <typename T>
TensorToWrite Tensor(std::string name, TensorDtype dtype, std::vector<int64_t> shape,
                     std::vector<T> data) {
  return {std::move(name), dtype, std::move(shape), [data = std::move(data)](const ByteSink& sink) {
            return sink({reinterpret_cast<const std::byte*>(data.data()), data.size() * sizeof(T)});
          }};
}

TensorToWrite Whole(const Parameter& p) {
  return {p.name, TensorDtype::kBF16, p.value.sizes().vec(), [p](const ByteSink& sink) {
            const at::Tensor value = p.value.cpu();
            std::vector<uint16_t> bits(value.numel());
            for (int64_t i = 0; i < value.numel(); ++i) bits[i] = Rounded(Data<float>(value)[i]);
            return sink({reinterpret_cast<const std::byte*>(bits.data()), bits.size() * 2});
          }};
}

absl::StatusOr<json::object> ReadInfo(const std::string& dir) {
  const std::string path = JoinPath(dir, kInfoFile);
  RFT_ASSIGN_OR_RETURN(const std::string text, FileSystem::Default().ReadFile(path));
  RFT_ASSIGN_OR_RETURN(const json::value value, ParseJson(text));
  const json::value* format =
      value.is_object() ? value.get_object().if_contains("format") : nullptr;
  if (format == nullptr || *format != kFormat)
    return absl::InvalidArgumentError(absl::StrCat(path, ": expected format '", kFormat, "'"));
  return value.get_object();
}

// The parameter's part of the delta, into its value.
absl::Status Apply(const TensorMap& tensors, const Parameter& p) {
  float* values = Data<float>(p.value);
  const int64_t n = p.value.numel();
  if (tensors.contains(p.name)) return LoadParameter(tensors, p, std::nullopt);
  const auto positions = tensors.find(PositionsName(p)), changed = tensors.find(ValuesName(p));
  if (positions == tensors.end() && changed == tensors.end()) return absl::OkStatus();
  if (positions == tensors.end() || changed == tensors.end() ||
      positions->second.dtype != TensorDtype::kU32 || changed->second.dtype != TensorDtype::kBF16 ||
      positions->second.bytes.size() != 2 * changed->second.bytes.size())
    return absl::InvalidArgumentError(
        absl::StrCat(p.name, ": expected as many U32 positions as BF16 values"));
  const int64_t count = static_cast<int64_t>(changed->second.bytes.size()) / 2;
  for (int64_t i = 0; i < count; ++i) {
    uint32_t at;
    Bf16 value;
    std::memcpy(&at, positions->second.bytes.data() + 4 * i, sizeof at);
    std::memcpy(&value, changed->second.bytes.data() + 2 * i, sizeof value);
    if (at >= n)
      return absl::InvalidArgumentError(
          absl::StrCat(p.name, ": position ", at, " is outside of its ", n, " numbers"));
    values[at] = ToFloat(value);
  }
  return absl::OkStatus();
}

}  // namespace

bool IsDeltaFolder(const std::string& dir) {
  return FileSystem::Default().Exists(JoinPath(dir, kInfoFile));
}

absl::StatusOr<std::string> BaseFolder(const std::string& dir) {
  if (!IsDeltaFolder(dir)) return dir;
  RFT_ASSIGN_OR_RETURN(const json::object info, ReadInfo(dir));
  return GetString(info, "base_model_name_or_path");
}

absl::Status SaveDelta(const CausalLm& model, const std::string& dir) {
  if (model.source_dir().empty())
    return absl::FailedPreconditionError(
        "save_weights_for_sampler: this model came from no folder, so there is no base that a "
        "delta "
        "could be of; save it whole");
  FileSystem& fs = FileSystem::Default();
  // A delta of the same base, not of a delta.
  RFT_ASSIGN_OR_RETURN(const std::string base, BaseFolder(model.source_dir()));
  RFT_ASSIGN_OR_RETURN(const TensorMap tensors, OpenModelWeights(base, fs));
  RFT_RETURN_IF_ERROR(fs.CreateDirs(dir));
  Checksum checksum;
  int64_t num_changed = 0;
  std::vector<TensorToWrite> writes;
  for (const Parameter& p : model.parameters().all()) {
    RFT_ASSIGN_OR_RETURN(const at::Tensor value, TryTorch([&] { return p.value.cpu(); }));
    RFT_ASSIGN_OR_RETURN(const Parameter of_base, TryTorch([&] {
                           return Parameter{p.name, at::empty_like(value), {}};
                         }));
    RFT_RETURN_IF_ERROR(LoadParameter(tensors, of_base, model.config().quantization));
    Change change;
    const int64_t n = p.value.numel();
    for (int64_t i = 0; i < n; ++i) {
      const uint16_t bits = Rounded(Data<float>(value)[i]);
      checksum.Add(bits);
      if (bits == Rounded(Data<float>(of_base.value)[i])) continue;
      ++num_changed;
      if (static_cast<int64_t>(change.positions.size()) > n / 3) continue;  // saved as a whole
      change.positions.push_back(static_cast<uint32_t>(i));
      change.values.push_back(bits);
    }
    const auto count = static_cast<int64_t>(change.positions.size());
    if (count > n / 3 || n > UINT32_MAX) {
      writes.push_back(Whole(p));
    } else if (count > 0) {
      writes.push_back(
          Tensor(PositionsName(p), TensorDtype::kU32, {count}, std::move(change.positions)));
      writes.push_back(
          Tensor(ValuesName(p), TensorDtype::kBF16, {count}, std::move(change.values)));
    }
  }
  RFT_RETURN_IF_ERROR(WriteSafetensors(JoinPath(dir, kWeightsFile), writes, {}, fs));
  RFT_RETURN_IF_ERROR(CopyCompanions(base, dir, fs));
  RFT_RETURN_IF_ERROR(WriteFile(fs, JoinPath(dir, "config.json"), model.config().json + "\n"));
  json::object info;
  info["format"] = kFormat;
  info["base_model_name_or_path"] = base;
  info["num_parameters"] = model.parameters().num_parameters();
  info["num_changed"] = num_changed;
  info["checksum"] = checksum.Text();
  return WriteFile(fs, JoinPath(dir, kInfoFile), ToJson(info) + "\n");
}

absl::StatusOr<std::shared_ptr<CausalLm>> LoadDelta(const std::string& dir, at::ScalarType dtype) {
  RFT_ASSIGN_OR_RETURN(const json::object info, ReadInfo(dir));
  RFT_ASSIGN_OR_RETURN(const std::string base, GetString(info, "base_model_name_or_path"));
  RFT_ASSIGN_OR_RETURN(const std::string expected, GetString(info, "checksum"));
  if (IsDeltaFolder(base))
    return absl::InvalidArgumentError(absl::StrCat(dir, ": its base ", base, " is a delta itself"));
  RFT_ASSIGN_OR_RETURN(std::shared_ptr<CausalLm> model, LoadModel(base, dtype));
  RFT_ASSIGN_OR_RETURN(const SafetensorsFile file, OpenSafetensors(JoinPath(dir, kWeightsFile)));
  Checksum checksum;
  for (const Parameter& p : model->parameters().all()) {
    float* values = Data<float>(p.value);
    for (int64_t i = 0; i < p.value.numel(); ++i) values[i] = ToFloat(FromFloat<Bf16>(values[i]));
    if (auto status = Apply(file.tensors, p); !status.ok())
      return absl::Status(status.code(), absl::StrCat(dir, ": ", status.message()));
    for (int64_t i = 0; i < p.value.numel(); ++i) checksum.Add(Rounded(values[i]));
  }
  if (checksum.Text() != expected)
    return absl::DataLossError(absl::StrCat(
        dir, ": with the base ", base,
        " this does not give the weights that were saved: another base, or a damaged file"));
  model->set_source_dir(dir);
  return model;
}

}  // namespace rft
