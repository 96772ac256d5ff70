#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <ATen/Parallel.h>

#include "absl/strings/str_cat.h"
#include "bindings/dtypes.h"
#include "bindings/errors.h"
#include "bindings/module.h"
#include "bindings/parameters.h"
#include "bindings/python_values.h"
#include "rft/io/json.h"
#include "rft/models/causal_lm.h"
#include "rft/tensor/parallel.h"

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

std::shared_ptr<CausalLm> Load(const std::string& dir, const std::string& dtype, int threads) {
  UseThreads(threads);
  const at::ScalarType compute = ComputeDtype(dtype);
  return ValueOrThrow(WithoutGil([&] { return LoadModel(dir, compute); }));
}

std::shared_ptr<CausalLm> Create(const std::string& config_json, const std::string& dtype,
                                 uint64_t seed) {
  const at::ScalarType compute = ComputeDtype(dtype);
  return ValueOrThrow(WithoutGil([&] { return CreateRandomModel(config_json, compute, seed); }));
}

void Save(const CausalLm& model, const std::string& dir, const std::string& dtype) {
  const SaveDtype save_dtype = ParseSaveDtype(model, dtype);
  ThrowIfError(WithoutGil([&] { return SaveModel(model, dir, save_dtype); }));
}

std::vector<std::string> ParameterNames(const CausalLm& model) {
  std::vector<std::string> names;
  for (const Parameter& parameter : model.parameters().all()) names.push_back(parameter.name);
  return names;
}

std::string Repr(const CausalLm& model) {
  const ModelConfig& c = model.config();
  return absl::StrCat("<rft.Model ", c.architecture, ": ",
                      ShortCount(model.parameters().num_parameters()), " parameters, ",
                      DtypeName(model.dtype()), ", ", c.num_layers, " layers of ", c.hidden_size,
                      ", vocabulary ", c.vocab_size, ", context ", c.max_positions, ">");
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
      .def_static("load", &Load, py::arg("dir"), py::arg("dtype") = "bf16", py::arg("threads") = 0,
                  "Loads a Hugging Face folder (config.json, *.safetensors).\n\n"
                  "dtype: compute type, \"bf16\" or \"fp32\". threads: for all tensor work of this "
                  "process from now on; 0 "
                  "leaves it as it is (all cores unless set before).\n\n"
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
          "dtype", [](const CausalLm& model) { return DtypeName(model.dtype()); },
          "Compute type: \"bf16\" or \"fp32\".")
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
            return CopyToNumpy(FindParameter(model, name).value);
          },
          py::arg("name"),
          "A float32 copy of one parameter. Raises ConfigError for an unknown name.")
      .def("parameter_names", &ParameterNames, "Hugging Face names of all parameters.")
      .def("__repr__", &Repr);
}

}  // namespace rft::python
