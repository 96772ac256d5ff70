// Hugging Face folders in and out (declared in causal_lm.h).
#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <iterator>

#include <ATen/ops/empty.h>
#include <c10/util/Half.h>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "rft/core/file_system.h"
#include "rft/core/rng.h"
#include "rft/core/status_macros.h"
#include "rft/io/json.h"
#include "rft/io/safetensors.h"
#include "rft/io/safetensors_writer.h"
#include "rft/models/causal_lm.h"
#include "rft/models/delta_folder.h"
#include "rft/models/hf_folder_internal.h"
#include "rft/models/random_normal.h"
#include "rft/models/stacked_experts.h"
#include "rft/tensor/dispatch.h"
#include "rft/tensor/kernels.h"
#include "rft/tensor/parallel.h"
#include "rft/tensor/try_torch.h"

namespace rft {
namespace {

absl::StatusOr<std::shared_ptr<CausalLm>> CreateModel(const ModelConfig& config,
                                                      at::ScalarType dtype) {
  if (dtype != at::kFloat && dtype != at::kBFloat16 && dtype != at::kChar)
    return absl::InvalidArgumentError("model: the compute dtype must be fp32, bf16 or int8");
  const auto* factory = ModelRegistry::Get().Find(config.architecture);
  if (!factory)
    return absl::InvalidArgumentError(absl::StrCat(
        "config.json: architectures: unknown model architecture '", config.architecture,
        "'; known: ", absl::StrJoin(ModelRegistry::Get().Names(), ", ")));
  auto model = TryTorch([&] { return (*factory)(config, dtype); });
  if (!model.ok()) return model.status();
  return *std::move(model);
}

template <typename S, typename Convert>
bool CopyChecked(const std::byte* bytes, int64_t n, float* out, const Convert& convert) {
  std::atomic<bool> finite{true};
  ParallelFor(n, 1 << 16, [&](int64_t begin, int64_t end) {
    float poison = 0.0f;  // becomes NaN when any value is NaN or Inf
    for (int64_t i = begin; i < end; ++i) {
      S value;
      std::memcpy(&value, bytes + i * sizeof(S), sizeof(S));
      out[i] = convert(value);
      poison += out[i] * 0.0f;
    }
    if (!(poison == 0.0f)) finite = false;
  });
  return finite;
}

std::string DtypeWord(SaveDtype dtype) {
  return dtype == SaveDtype::kBFloat16 ? "bfloat16" : "float32";
}

json::object* TextConfigOf(json::object& config) {
  json::value* text = config.if_contains("text_config");
  return text && text->is_object() ? &text->get_object() : nullptr;
}

using ValueOf = std::function<at::Tensor(const Parameter&)>;

TensorToWrite Describe(const Parameter& p, SaveDtype dtype, const ValueOf& value_of) {
  TensorToWrite t;
  t.name = p.name;
  t.shape = p.value.sizes().vec();
  t.dtype = dtype == SaveDtype::kBFloat16 ? TensorDtype::kBF16 : TensorDtype::kF32;
  t.write = [p, dtype, value_of](const ByteSink& sink) -> absl::Status {
    const at::Tensor value = (value_of ? value_of(p) : p.value).cpu();
    const auto* data = Data<float>(value);
    const int64_t n = value.numel();
    if (dtype == SaveDtype::kFloat32)
      return sink({reinterpret_cast<const std::byte*>(data), n * sizeof(float)});
    std::vector<Bf16> chunk;
    constexpr int64_t kChunk = 1 << 20;
    for (int64_t i = 0; i < n; i += kChunk) {
      const int64_t m = std::min(kChunk, n - i);
      chunk.resize(m);
      GetKernels().bf16.from_float(data + i, m, chunk.data());
      RFT_RETURN_IF_ERROR(
          sink({reinterpret_cast<const std::byte*>(chunk.data()), m * sizeof(Bf16)}));
    }
    return absl::OkStatus();
  };
  return t;
}

// Of a model that sees, too: the tensors of its other parts, as they were read.
absl::StatusOr<std::vector<TensorToWrite>> OtherParts(const CausalLm& model, const std::string& dir,
                                                      FileSystem& fs) {
  std::vector<TensorToWrite> tensors;
  const ModelConfig& config = model.config();
  if (!config.is_part || model.source_dir().empty()) return tensors;
  RFT_ASSIGN_OR_RETURN(const std::string source, BaseFolder(model.source_dir()));
  if (source == dir)
    return absl::InvalidArgumentError(absl::StrCat(
        dir,
        ": the weights that are not the language model's are copied from there; save the "
        "model elsewhere"));
  RFT_ASSIGN_OR_RETURN(const TensorMap read, OpenModelWeights(source, fs));
  for (const auto& [name, view] : read) {
    if (name.starts_with(config.body + ".") || name.starts_with(config.head + ".")) continue;
    tensors.push_back({name, view.dtype, view.shape,
                       [view = view](const ByteSink& sink) { return sink(view.bytes); }});
  }
  return tensors;
}

constexpr const char* kCompanions[] = {"tokenizer.json",
                                       "tokenizer_config.json",
                                       "special_tokens_map.json",
                                       "chat_template.jinja",
                                       "vocab.json",
                                       "merges.txt",
                                       "added_tokens.json",
                                       "tokenizer.model",
                                       "generation_config.json"};

}  // namespace

absl::Status LoadParameter(const TensorMap& tensors, const Parameter& p,
                           const std::optional<StoredQuantization>& quantization) {
  if (quantization) {
    RFT_ASSIGN_OR_RETURN(
        const bool loaded,
        LoadQuantized(tensors, *quantization, p.name, p.value.sizes().vec(),
                      {Data<float>(p.value), static_cast<size_t>(p.value.numel())}));
    if (loaded) return absl::OkStatus();
  }
  RFT_ASSIGN_OR_RETURN(const TensorView view,
                       FindParameterTensor(tensors, p.name, p.value.sizes().vec()));
  if (view.shape != p.value.sizes().vec())
    return absl::InvalidArgumentError(
        absl::StrCat(p.name, ": the file has shape [", absl::StrJoin(view.shape, ", "),
                     "], config.json asks for [", absl::StrJoin(p.value.sizes(), ", "), "]"));
  float* out = Data<float>(p.value);
  const std::byte* bytes = view.bytes.data();
  const int64_t n = p.value.numel();
  bool finite = true;
  switch (view.dtype) {
    case TensorDtype::kF32:
      finite = CopyChecked<float>(bytes, n, out, [](float x) { return x; });
      break;
    case TensorDtype::kBF16:
      finite = CopyChecked<Bf16>(bytes, n, out, [](Bf16 x) { return ToFloat(x); });
      break;
    case TensorDtype::kF16:
      finite =
          CopyChecked<c10::Half>(bytes, n, out, [](c10::Half x) { return static_cast<float>(x); });
      break;
    default:
      return absl::InvalidArgumentError(
          absl::StrCat(p.name, ": dtype ", TensorDtypeName(view.dtype),
                       " is not supported; expected BF16, F16 or F32"));
  }
  if (!finite)
    return absl::InvalidArgumentError(
        absl::StrCat(p.name, ": contains NaN or Inf; the checkpoint is damaged"));
  return absl::OkStatus();
}

absl::Status CopyCompanions(const std::string& from, const std::string& to, FileSystem& fs) {
  for (const char* name : kCompanions) {
    const std::string path = JoinPath(from, name);
    if (!fs.Exists(path)) continue;
    RFT_ASSIGN_OR_RETURN(const std::string bytes, fs.ReadFile(path));
    RFT_RETURN_IF_ERROR(WriteFile(fs, JoinPath(to, name), bytes));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::shared_ptr<CausalLm>> LoadModel(const std::string& dir, at::ScalarType dtype) {
  FileSystem& fs = FileSystem::Default();
  if (!fs.IsDirectory(dir))
    return absl::NotFoundError(
        absl::StrCat("model: ", dir,
                     " is not a folder; expected a Hugging Face model folder "
                     "(config.json, model.safetensors, tokenizer.json)"));
  if (IsDeltaFolder(dir)) return LoadDelta(dir, dtype);
  auto config_text = fs.ReadFile(JoinPath(dir, "config.json"));
  if (!config_text.ok())
    return absl::NotFoundError(absl::StrCat("model: ", dir, " has no config.json"));
  std::string generation_text;
  if (fs.Exists(JoinPath(dir, "generation_config.json"))) {
    RFT_ASSIGN_OR_RETURN(generation_text, fs.ReadFile(JoinPath(dir, "generation_config.json")));
  }
  auto in_dir = [&](const absl::Status& s) {
    return absl::Status(s.code(), absl::StrCat(dir, ": ", s.message()));
  };
  auto config = ParseModelConfig(*config_text, generation_text);
  if (!config.ok()) return in_dir(config.status());
  auto tensors = OpenModelWeights(dir, fs);
  if (!tensors.ok()) return tensors.status();
  auto model = CreateModel(*config, dtype);
  if (!model.ok()) return in_dir(model.status());
  const ParameterStore& parameters = (*model)->parameters();
  for (const auto* kind : {&parameters.all(), &parameters.buffers()})
    for (const Parameter& p : *kind)
      if (auto status = LoadParameter(*tensors, p, config->quantization); !status.ok())
        return in_dir(status);
  (*model)->set_stacked_experts(HasStackedExperts(*tensors));
  (*model)->set_source_dir(dir);
  return model;
}

absl::StatusOr<std::shared_ptr<CausalLm>> CreateRandomModel(const std::string& config_json,
                                                            at::ScalarType dtype, uint64_t seed) {
  RFT_ASSIGN_OR_RETURN(const ModelConfig config, ParseModelConfig(config_json));
  RFT_ASSIGN_OR_RETURN(auto model, CreateModel(config, dtype));
  uint64_t index = 0;
  const auto fill = [&](const Parameter& p) {
    float* out = Data<float>(p.value);
    const uint64_t salt = ++index;
    for (int64_t i = 0; i < p.value.numel(); ++i)
      out[i] = p.value.dim() == 1
                   ? 1.0f
                   : static_cast<float>(NormalFrom(BitsAt(seed, salt, static_cast<uint64_t>(i)),
                                                   config.initializer_range));
  };
  for (const Parameter& p : model->parameters().all()) fill(p);
  for (const Parameter& p : model->parameters().buffers())  // biases stay 0
    if (!absl::EndsWith(p.name, "bias")) fill(p);
  return model;
}

absl::Status SaveModel(const CausalLm& model, const std::string& dir, SaveDtype dtype,
                       const ValueOf& value_of, const std::optional<at::Tensor>& own_head) {
  FileSystem& fs = FileSystem::Default();
  RFT_ASSIGN_OR_RETURN(std::vector<TensorToWrite> others, OtherParts(model, dir, fs));
  RFT_RETURN_IF_ERROR(fs.CreateDirs(dir));
  RFT_ASSIGN_OR_RETURN(json::value config, ParseJson(model.config().json));
  // The inner one first: what is added to the outer one may move it.
  for (json::object* part : {TextConfigOf(config.get_object()), &config.get_object()}) {
    if (part == nullptr) continue;
    (*part)["dtype"] = DtypeWord(dtype);
    part->erase("quantization_config");
    part->erase("torch_dtype");
    if (own_head) (*part)["tie_word_embeddings"] = false;
  }
  RFT_RETURN_IF_ERROR(WriteFile(fs, JoinPath(dir, "config.json"), ToJson(config) + "\n"));
  std::vector<TensorToWrite> tensors;
  for (const Parameter& p : model.parameters().all())
    tensors.push_back(Describe(p, dtype, value_of));
  if (own_head)
    tensors.push_back(Describe({model.config().head + ".weight", *own_head, {}}, dtype, {}));
  for (const Parameter& p : model.parameters().buffers())
    tensors.push_back(Describe(p, SaveDtype::kFloat32, {}));
  if (model.stacked_experts()) tensors = StackExperts(std::move(tensors));
  tensors.insert(tensors.end(), std::make_move_iterator(others.begin()),
                 std::make_move_iterator(others.end()));
  SafetensorsWriteOptions options;
  options.max_shard_bytes = uint64_t{4} << 30;
  RFT_RETURN_IF_ERROR(WriteModelWeights(dir, tensors, options, fs).status());
  if (model.source_dir().empty() || model.source_dir() == dir) return absl::OkStatus();
  return CopyCompanions(model.source_dir(), dir, fs);
}

}  // namespace rft
