#include <algorithm>
#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>
#include <pybind11/stl/filesystem.h>

#include <ATen/Parallel.h>

#include "absl/strings/str_cat.h"
#include "bindings/arrays.h"
#include "bindings/dtypes.h"
#include "bindings/errors.h"
#include "bindings/module.h"
#include "bindings/parameters.h"
#include "bindings/python_values.h"
#include "rft/core/status_macros.h"
#include "rft/io/json.h"
#include "rft/models/causal_lm.h"
#include "rft/models/device.h"
#include "rft/models/lora.h"
#include "rft/tensor/parallel.h"
#include "rft/tensor/try_torch.h"

namespace rft::python {
namespace {

void UseThreads(int threads) {
  if (threads < 0)
    throw StatusException(
        absl::InvalidArgumentError(absl::StrCat("threads: ", threads, " is negative")));
  if (threads == 0) return;
  SetNumThreads(threads);
  at::set_num_threads(threads);
}

// "source": what config.json names; fp16 is widened, since bf16 has fewer bits of precision.
SaveDtype ParseSaveDtype(const CausalLm& model, const std::string& name) {
  if (name == "bf16") return SaveDtype::kBFloat16;
  if (name == "fp32") return SaveDtype::kFloat32;
  if (name != "source") {
    throw StatusException(absl::InvalidArgumentError(
        absl::StrCat("dtype: '", name, "' is not one of bf16, fp32, source")));
  }
  const json::value config = ValueOrThrow(ParseJson(model.config().json));
  for (const char* key : {"dtype", "torch_dtype"}) {
    const absl::StatusOr<std::string> text = GetString(config.as_object(), key);
    if (text.ok()) return *text == "bfloat16" ? SaveDtype::kBFloat16 : SaveDtype::kFloat32;
  }
  return SaveDtype::kFloat32;
}

std::shared_ptr<CausalLm> Load(const std::filesystem::path& dir, const std::string& dtype,
                               int threads, const std::string& device, bool offload) {
  const auto where = ParseDevice(device);
  if (!where.ok())
    throw StatusException(
        absl::InvalidArgumentError(absl::StrCat("device: ", where.status().message())));
  if (where->is_cpu() && offload)
    throw StatusException(absl::InvalidArgumentError(
        "offload: is for another device than cpu, where everything is in host memory"));
  UseThreads(threads);
  const at::ScalarType compute = ComputeDtype(dtype);
  return ValueOrThrow(WithoutGil([&]() -> absl::StatusOr<std::shared_ptr<CausalLm>> {
    RFT_ASSIGN_OR_RETURN(std::shared_ptr<CausalLm> model, LoadModel(dir, compute));
    RFT_RETURN_IF_ERROR(TryTorch([&] { model->MoveTo(*where, offload); }));
    return model;
  }));
}

std::shared_ptr<CausalLm> Create(const std::string& config_json, const std::string& dtype,
                                 uint64_t seed) {
  const at::ScalarType compute = ComputeDtype(dtype);
  return ValueOrThrow(WithoutGil([&] { return CreateRandomModel(config_json, compute, seed); }));
}

void Save(const CausalLm& model, const std::filesystem::path& dir, const std::string& dtype) {
  const SaveDtype save_dtype = ParseSaveDtype(model, dtype);
  ThrowIfError(WithoutGil([&] { return SaveModel(model, dir, save_dtype); }));
}

std::vector<std::string> ParameterNames(const ParameterStore& parameters) {
  std::vector<std::string> names;
  for (const Parameter& parameter : parameters.all()) names.push_back(parameter.name);
  return names;
}

// [tokens, token_bytes] of this model.
using RouteArray = py::array_t<uint8_t, py::array::c_style | py::array::forcecast>;
RouteCodec CheckRoutes(const CausalLm& model, const RouteArray& routes) {
  const RouteCodec codec = model.route_codec();
  if (routes.ndim() != 2 || routes.shape(1) != codec.token_bytes())
    throw StatusException(absl::InvalidArgumentError(
        absl::StrCat("routes: must be uint8 [tokens, ", codec.token_bytes(), "] for this model")));
  return codec;
}

py::array_t<int32_t> UnpackRoutes(const CausalLm& model, const RouteArray& routes) {
  const RouteCodec codec = CheckRoutes(model, routes);
  py::array_t<int32_t> experts({routes.shape(0), static_cast<py::ssize_t>(codec.num_layers()),
                                static_cast<py::ssize_t>(codec.top_k())});
  for (py::ssize_t t = 0; t < routes.shape(0); ++t)
    ThrowIfError(codec.Decode(routes.data(t, 0), experts.mutable_data(t, 0, 0)));
  return experts;
}

py::array_t<uint8_t> PackRoutes(
    const CausalLm& model,
    const py::array_t<int32_t, py::array::c_style | py::array::forcecast>& experts) {
  const RouteCodec codec = model.route_codec();
  if (experts.ndim() != 3 || experts.shape(1) != codec.num_layers() ||
      experts.shape(2) != codec.top_k())
    throw StatusException(absl::InvalidArgumentError(
        absl::StrCat("experts: must be int32 [tokens, ", codec.num_layers(), ", ", codec.top_k(),
                     "] for this model")));
  for (py::ssize_t i = 0; i < experts.size(); ++i)
    if (experts.data()[i] < 0 || experts.data()[i] >= codec.num_experts())
      throw StatusException(absl::InvalidArgumentError(
          absl::StrCat("experts: ", experts.data()[i], " is not one of ", codec.num_experts())));
  py::array_t<uint8_t> routes({experts.shape(0), static_cast<py::ssize_t>(codec.token_bytes())});
  for (py::ssize_t t = 0; t < experts.shape(0); ++t)
    codec.Encode(experts.data(t, 0, 0), routes.mutable_data(t, 0));
  return routes;
}

std::vector<std::string> RoutesToWire(const CausalLm& model, const RouteArray& routes) {
  const RouteCodec codec = CheckRoutes(model, routes);
  std::vector<std::string> texts;
  for (py::ssize_t t = 0; t < routes.shape(0); ++t)
    texts.push_back(codec.ToWire(routes.data(t, 0)));
  return texts;
}

// (routes, routed) as a Datum takes them.
py::tuple RoutesFromWire(const CausalLm& model, const std::vector<std::string>& texts,
                         bool of_inputs) {
  const RouteCodec codec = model.route_codec();
  const TokenRoutes routes = ValueOrThrow(of_inputs ? DatumRoutesFromWire(codec, texts)
                                                    : TokenRoutesFromWire(codec, texts));
  py::array_t<uint8_t> packed({static_cast<py::ssize_t>(routes.known.size()),
                               static_cast<py::ssize_t>(codec.token_bytes())});
  std::copy(routes.packed.begin(), routes.packed.end(), packed.mutable_data());
  return py::make_tuple(packed, ReadOnlyArray(routes.known));
}

std::string Repr(const CausalLm& model) {
  const ModelConfig& c = model.config();
  return absl::StrCat(
      "<rft.Model ", c.architecture, ": ", ShortCount(model.parameters().num_parameters()),
      " parameters, ", DtypeName(model.weight_dtype()), ", ", c.num_layers, " layers of ",
      c.hidden_size, ", vocabulary ", c.vocab_size, ", context ", c.max_positions, ">");
}

std::shared_ptr<LoraAdapter> CreateAdapter(std::shared_ptr<CausalLm> model, int64_t rank,
                                           double alpha, double dropout,
                                           std::vector<std::string> targets, bool rslora,
                                           uint64_t seed) {
  return ValueOrThrow(WithoutGil([&] {
    return LoraAdapter::Create(std::move(model), {.rank = rank,
                                                  .alpha = alpha,
                                                  .dropout = dropout,
                                                  .targets = std::move(targets),
                                                  .rslora = rslora,
                                                  .seed = seed});
  }));
}

void BindAdapters(py::module_& m) {
  const LoraConfig defaults;
  py::class_<LoraAdapter, std::shared_ptr<LoraAdapter>>(
      m, "Adapter",
      "A LoRA adapter on a model that stays as it is; any number of them share one model. Train it "
      "with Trainer(model, adapter), sample with Engine.publish(adapter.weights(), \"name\").")
      .def(py::init(&CreateAdapter), py::arg("model"), py::arg("rank") = defaults.rank,
           py::arg("alpha") = defaults.alpha, py::arg("dropout") = defaults.dropout,
           py::arg("targets") = defaults.targets, py::arg("rslora") = defaults.rslora,
           py::arg("seed") = defaults.seed,
           "Scale alpha / rank (rslora: alpha / sqrt(rank)). targets: module names (\"q_proj\") or "
           "groups: attention, mlp, all. Starts as no change: B is 0.\n\n"
           "Raises ConfigError (a target no module has, a bad rank).")
      .def_static(
          "load",
          [](std::shared_ptr<CausalLm> model, const std::filesystem::path& dir) {
            return ValueOrThrow(
                WithoutGil([&] { return LoraAdapter::Load(std::move(model), dir); }));
          },
          py::arg("model"), py::arg("dir"),
          "A folder as peft's save_pretrained writes it. Raises NotFoundError, ConfigError (what "
          "is "
          "not supported, another model's tensors).")
      .def(
          "save",
          [](const LoraAdapter& self, const std::filesystem::path& dir) {
            ThrowIfError(WithoutGil([&] { return self.Save(dir); }));
          },
          py::arg("dir"), "Such a folder: peft.PeftModel.from_pretrained loads it.")
      .def(
          "save_merged",
          [](const LoraAdapter& self, const std::filesystem::path& dir, const std::string& dtype) {
            const SaveDtype save_dtype = ParseSaveDtype(*self.base(), dtype);
            ThrowIfError(WithoutGil([&] { return self.SaveMerged(dir, save_dtype); }));
          },
          py::arg("dir"), py::arg("dtype") = "bf16",
          "A Hugging Face folder of the model with the adapter merged into it.")
      .def(
          "weights",
          [](LoraAdapter& self) {
            return std::const_pointer_cast<PublishedWeights>(
                std::shared_ptr<const PublishedWeights>(
                    WithoutGil([&] { return self.weights(); })));
          },
          "Its current version, for Engine.publish: a pointer, not a copy.")
      .def_property_readonly("model", &LoraAdapter::base, "The base.")
      .def_property_readonly("rank", [](const LoraAdapter& self) { return self.config().rank; })
      .def_property_readonly(
          "num_parameters", [](LoraAdapter& self) { return self.parameters().num_parameters(); },
          "Number of trainable values.")
      .def(
          "parameter",
          [](LoraAdapter& self, const std::string& name) {
            return CopyToNumpy(FindParameter(self.parameters(), name).value);
          },
          py::arg("name"), "A float32 copy of one parameter.")
      .def(
          "parameter_names", [](LoraAdapter& self) { return ParameterNames(self.parameters()); },
          "PEFT's names of all parameters.")
      .def(
          "merged",
          [](LoraAdapter& self, const std::string& name) {
            return CopyToNumpy(self.Merged(FindParameter(self.base()->parameters(), name)));
          },
          py::arg("name"),
          "A float32 copy of one parameter of the model with the adapter added to it.")
      .def("__repr__", [](LoraAdapter& self) {
        return absl::StrCat("<rft.Adapter of rank ", self.config().rank, ": ",
                            ShortCount(self.parameters().num_parameters()), " parameters on ",
                            self.targets().size(), " modules>");
      });
}

}  // namespace

void BindModels(py::module_& m) {
  py::class_<PublishedWeights, std::shared_ptr<PublishedWeights>>(
      m, "Weights",
      "One version of a model's weights, immutable; a pointer, not a copy. Made by "
      "Trainer.weights().")
      .def_property_readonly("version", &PublishedWeights::version,
                             "Weight version: one more per optimizer step.")
      .def("__repr__", [](const PublishedWeights& w) {
        return absl::StrCat("<rft.Weights version ", w.version(), ">");
      });

  py::class_<CausalLm, std::shared_ptr<CausalLm>>(
      m, "Model",
      "A language model: fp32 master weights and the compute copy that sampler and trainer share.")
      .def_static(
          "load", &Load, py::arg("dir"), py::arg("dtype") = "bf16", py::arg("threads") = 0,
          py::arg("device") = "cpu", py::arg("offload") = false,
          "Loads a Hugging Face folder (config.json, *.safetensors).\n\n"
          "dtype: compute type, \"bf16\" or \"fp32\"; \"int8\" is bf16 with int8 weights (one "
          "scale per output), for judges and references: it is never trained or given new "
          "weights. threads: for all tensor work of this "
          "process from now on; 0 "
          "leaves it as it is (all cores unless set before). device: where it is trained, \"cpu\" "
          "or "
          "\"cuda\" (\"cuda:1\", ...); engines sample on the CPU, from "
          "Trainer.sampler_model. offload: with such a device, master weights and the optimizer's "
          "state stay in host memory, and steps are made there.\n\n"
          "Raises NotFoundError (what is missing), ConfigError (unknown architecture, a "
          "missing or misshapen tensor, "
          "NaN weights, pickle files), ResourceError.")
      .def_static(
          "create", &Create, py::arg("config_json"), py::arg("dtype") = "bf16", py::arg("seed") = 0,
          "Random weights for the text of a config.json. Set `tokenizer_dir` before saving.")
      .def("save", &Save, py::arg("dir"), py::arg("dtype") = "bf16",
           "Writes config.json, model.safetensors and the tokenizer's files (from tokenizer_dir); "
           "transformers loads the "
           "result.\n\ndtype: \"bf16\", \"fp32\", or \"source\" (what config.json names; fp16 is "
           "written as fp32).")
      .def_property_readonly(
          "num_parameters",
          [](const CausalLm& model) { return model.parameters().num_parameters(); },
          "Number of trainable values; tied embeddings count once.")
      .def_property_readonly(
          "config", [](const CausalLm& model) { return FromJson(model.config().json); },
          "config.json as a dict.")
      .def_property_readonly(
          "device", [](const CausalLm& model) { return model.device().str(); },
          "Where it is trained: \"cpu\", or what Model.load was told, with an index.")
      .def_property_readonly(
          "dtype", [](const CausalLm& model) { return DtypeName(model.weight_dtype()); },
          "Compute type: \"bf16\", \"fp32\", or \"int8\" (bf16 with int8 weights).")
      .def_property_readonly("vocab_size",
                             [](const CausalLm& model) { return model.config().vocab_size; })
      .def_property_readonly(
          "max_context", [](const CausalLm& model) { return model.config().max_positions; },
          "Longest prompt + completion, in tokens.")
      .def_property("tokenizer_dir", &CausalLm::source_dir, &CausalLm::set_source_dir,
                    "Folder whose tokenizer, template and generation files save() copies; where "
                    "the model came from.")
      .def(
          "parameter",
          [](const CausalLm& model, const std::string& name) {
            return CopyToNumpy(FindParameter(model.parameters(), name).value);
          },
          py::arg("name"),
          "A float32 copy of one parameter. Raises ConfigError for an unknown name.")
      .def(
          "parameter_names",
          [](const CausalLm& model) { return ParameterNames(model.parameters()); },
          "Hugging Face names of all parameters.")
      .def_property_readonly(
          "route_bytes", [](const CausalLm& model) { return model.route_codec().token_bytes(); },
          "Bytes per token of recorded expert choices, all layers; 0 for dense models.")
      .def(
          "pack_routes", &PackRoutes, py::arg("experts"),
          "Expert ids int32 [tokens, layers, top_k], each row ascending, to routes: uint8 [tokens, "
          "bytes], as in Completion.routes and Datum.routes.")
      .def("unpack_routes", &UnpackRoutes, py::arg("routes"),
           "The expert ids int32 [tokens, mixture-of-experts layers, top_k] of routes.")
      .def("routes_to_wire", &RoutesToWire, py::arg("routes"),
           "One base64 text per token, as the Training API carries it.")
      .def("routes_from_wire", &RoutesFromWire, py::arg("texts"), py::arg("of_inputs") = false,
           "(routes, routed) of a Datum from such texts; \"\" leaves the token to the router. Text "
           "t belongs to token t, as in a reply's logprobs.content; of_inputs: to the forward that "
           "had token t as its input, as in the Training API's model_input.routing_matrices, so "
           "that the routes are one longer than the texts. Raises ConfigError naming the text that "
           "is wrong.")
      .def("__repr__", &Repr);

  BindAdapters(m);
}

}  // namespace rft::python
