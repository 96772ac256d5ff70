// Adapters in PEFT's format: adapter_config.json and adapter_model.safetensors (LoraAdapter::Load and Save).
#include <algorithm>
#include <cstring>
#include <set>

#include <ATen/ops/empty_like.h>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "rft/core/file_system.h"
#include "rft/core/status_macros.h"
#include "rft/io/json.h"
#include "rft/io/safetensors.h"
#include "rft/io/safetensors_writer.h"
#include "rft/models/lora_internal.h"
#include "rft/tensor/bf16.h"
#include "rft/tensor/dispatch.h"
#include "rft/tensor/kernels.h"
#include "rft/tensor/try_torch.h"

namespace rft {
namespace {

constexpr char kConfigFile[] = "adapter_config.json";
constexpr char kWeightsFile[] = "adapter_model.safetensors";

bool IsSet(const json::object& config, std::string_view key) {
  const json::value* v = config.if_contains(key);
  if (v == nullptr || v->is_null()) return false;
  if (v->is_bool()) return v->as_bool();
  if (v->is_array()) return !v->as_array().empty();
  if (v->is_object()) return !v->as_object().empty();
  return true;
}

absl::StatusOr<LoraConfig> ReadConfig(const json::object& config) {
  LoraConfig lora;
  RFT_ASSIGN_OR_RETURN(const std::string type, GetString(config, "peft_type"));
  if (type != "LORA")
    return absl::InvalidArgumentError(
        absl::StrCat("peft_type: '", type, "' is not supported; expected LORA"));
  RFT_ASSIGN_OR_RETURN(lora.rank, GetInt(config, "r"));
  RFT_ASSIGN_OR_RETURN(lora.alpha, GetDouble(config, "lora_alpha"));
  lora.rslora = IsSet(config, "use_rslora");
  if (config.contains("lora_dropout")) {
    RFT_ASSIGN_OR_RETURN(lora.dropout, GetDouble(config, "lora_dropout"));
  }
  for (const char* key :
       {"use_dora", "modules_to_save", "rank_pattern", "alpha_pattern", "fan_in_fan_out",
        "trainable_token_indices", "target_parameters", "lora_bias"})
    if (IsSet(config, key))
      return absl::InvalidArgumentError(absl::StrCat(key, ": is not supported"));
  if (const json::value* bias = config.if_contains("bias");
      bias != nullptr && bias->is_string() && bias->as_string() != "none")
    return absl::InvalidArgumentError("bias: only \"none\" is supported");
  if (auto status = ValidateLora(lora); !status.ok()) return status;
  return lora;
}

absl::Status Copy(const TensorView& view, const Parameter& p) {
  if (view.shape != p.value.sizes().vec())
    return absl::InvalidArgumentError(absl::StrCat(
        p.name, ": the file has shape [", absl::StrJoin(view.shape, ", "),
        "], the base model and r ask for [", absl::StrJoin(p.value.sizes(), ", "), "]"));
  float* out = Data<float>(p.value);
  const auto n = static_cast<int64_t>(p.value.numel());
  if (view.dtype == TensorDtype::kF32) {
    std::memcpy(out, view.bytes.data(), n * sizeof(float));
  } else if (view.dtype == TensorDtype::kBF16) {
    std::vector<Bf16> values(n);
    std::memcpy(values.data(), view.bytes.data(), n * sizeof(Bf16));
    GetKernels().bf16.to_float(values.data(), n, out);
  } else {
    return absl::InvalidArgumentError(absl::StrCat(p.name, ": dtype ", TensorDtypeName(view.dtype),
                                                   " is not supported; expected F32 or BF16"));
  }
  for (int64_t i = 0; i < n; ++i)
    if (!(out[i] * 0.0f == 0.0f))
      return absl::InvalidArgumentError(
          absl::StrCat(p.name, ": contains NaN or Inf; the adapter is damaged"));
  return absl::OkStatus();
}

// peft writes a copy of the base's embedding beside an adapter of it (its save_embedding_layers): it has to be the base's own.
absl::Status CheckCopy(const TensorView& view, const std::string& name, const Parameter& base) {
  RFT_ASSIGN_OR_RETURN(const at::Tensor value, TryTorch([&] { return base.value.cpu(); }));
  RFT_ASSIGN_OR_RETURN(const Parameter copy, TryTorch([&] {
                         return Parameter{name, at::empty_like(value), {}};
                       }));
  RFT_RETURN_IF_ERROR(Copy(view, copy));
  const bool rounded = view.dtype == TensorDtype::kBF16;
  for (int64_t i = 0; i < copy.value.numel(); ++i) {
    const float own = Data<float>(value)[i];
    if (Data<float>(copy.value)[i] != (rounded ? ToFloat(FromFloat<Bf16>(own)) : own))
      return absl::InvalidArgumentError(
          absl::StrCat(name, ": is not the base model's; expected an adapter of this base"));
  }
  return absl::OkStatus();
}

std::string ConfigJson(const LoraAdapter& adapter) {
  const LoraConfig& c = adapter.config();
  json::array targets;
  std::set<std::string> names;
  for (const LoraTarget& target : adapter.targets()) names.insert(ModuleName(target));
  for (const std::string& name : names) targets.emplace_back(name);
  json::object o;
  o["peft_type"] = "LORA";
  o["task_type"] = "CAUSAL_LM";
  o["base_model_name_or_path"] = adapter.base()->source_dir();
  o["r"] = c.rank;
  o["lora_alpha"] = c.alpha;
  o["lora_dropout"] = c.dropout;
  o["use_rslora"] = c.rslora;
  o["target_modules"] = std::move(targets);
  o["bias"] = "none";
  o["fan_in_fan_out"] = false;
  o["inference_mode"] = true;
  return ToJson(o) + "\n";
}

}  // namespace

absl::StatusOr<std::shared_ptr<LoraAdapter>> LoraAdapter::Load(std::shared_ptr<CausalLm> base,
                                                               const std::string& dir) {
  FileSystem& fs = FileSystem::Default();
  const std::string config_path = JoinPath(dir, kConfigFile);
  if (!fs.Exists(config_path))
    return absl::NotFoundError(
        absl::StrCat("adapter: ", dir, " has no ", kConfigFile,
                     "; expected a folder as peft's save_pretrained writes it"));
  RFT_ASSIGN_OR_RETURN(const std::string text, fs.ReadFile(config_path));
  const auto in_config = [&](const absl::Status& s) {
    return absl::Status(s.code(), absl::StrCat(config_path, ": ", s.message()));
  };
  const auto parsed = ParseJson(text);
  if (!parsed.ok()) return in_config(parsed.status());
  if (!parsed->is_object()) return in_config(absl::InvalidArgumentError("expected an object"));
  auto config = ReadConfig(parsed->as_object());
  if (!config.ok()) return in_config(config.status());
  const std::string path = JoinPath(dir, kWeightsFile);
  RFT_ASSIGN_OR_RETURN(const SafetensorsFile file, OpenSafetensors(path, fs));
  const auto in_file = [&](const absl::Status& s) {
    return absl::Status(s.code(), absl::StrCat(path, ": ", s.message()));
  };
  std::vector<LoraTarget> targets;
  std::set<std::string> known;
  for (LoraTarget& target : Adaptable(*base)) {
    if (!file.tensors.contains(LoraTensorName(target, 'A'))) continue;
    known.insert({LoraTensorName(target, 'A'), LoraTensorName(target, 'B')});
    if (target.is_embedding || ModuleName(target) == "lm_head") {
      const std::string copy =
          absl::StrCat("base_model.model.", target.module, ".base_layer.weight");
      known.insert(copy);
      if (const auto it = file.tensors.find(copy); it != file.tensors.end())
        if (auto status = CheckCopy(it->second, copy, *target.base); !status.ok())
          return in_file(status);
    }
    targets.push_back(std::move(target));
  }
  for (const auto& [name, view] : file.tensors)
    if (!known.contains(name))
      return in_file(absl::InvalidArgumentError(
          absl::StrCat(name, ": this model has no such module to adapt")));
  if (targets.empty()) return absl::InvalidArgumentError(absl::StrCat(path, ": has no tensors"));
  std::set<std::string> modules;
  for (const LoraTarget& target : targets) modules.insert(ModuleName(target));
  config->targets = {modules.begin(), modules.end()};
  auto adapter = TryTorch([&] {
    return std::shared_ptr<LoraAdapter>(
        new LoraAdapter(std::move(base), *std::move(config), std::move(targets)));
  });
  if (!adapter.ok()) return adapter.status();
  for (const Parameter& p : (*adapter)->parameters().all()) {
    const auto view = FindTensor(file.tensors, p.name);
    absl::Status status = view.ok() ? Copy(*view, p) : view.status();
    if (!status.ok()) return in_file(status);
  }
  RFT_RETURN_IF_ERROR(TryTorch([&] { (*adapter)->MoveToBase(); }));
  return adapter;
}

absl::Status LoraAdapter::Save(const std::string& dir) const {
  FileSystem& fs = FileSystem::Default();
  RFT_RETURN_IF_ERROR(fs.CreateDirs(dir));
  RFT_RETURN_IF_ERROR(WriteFile(fs, JoinPath(dir, kConfigFile), ConfigJson(*this)));
  std::vector<TensorToWrite> tensors;
  for (const Parameter& p : parameters_->all())
    tensors.push_back(
        {p.name, TensorDtype::kF32, p.value.sizes().vec(), [of = p.value](const ByteSink& sink) {
           const at::Tensor value = of.cpu();
           return sink({reinterpret_cast<const std::byte*>(Data<float>(value)),
                        static_cast<size_t>(value.nbytes())});
         }});
  return WriteSafetensors(JoinPath(dir, kWeightsFile), tensors, {}, fs);
}

}  // namespace rft
