#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>
#include <pybind11/stl/filesystem.h>

#include "absl/strings/str_cat.h"
#include "bindings/arrays.h"
#include "bindings/custom_loss.h"
#include "bindings/datum_list.h"
#include "bindings/errors.h"
#include "bindings/exclusive.h"
#include "bindings/loss_knobs.h"
#include "bindings/module.h"
#include "bindings/parameters.h"
#include "bindings/python_values.h"
#include "losses/preference_loss.h"
#include "rft/core/file_system.h"
#include "rft/core/status_macros.h"
#include "rft/tensor/try_torch.h"
#include "rft/train/trainer.h"

namespace rft::python {
namespace {

using PyTrainer = Exclusive<Trainer>;

std::unique_ptr<PyTrainer> MakeTrainer(std::shared_ptr<CausalLm> model,
                                       std::shared_ptr<LoraAdapter> adapter, int64_t token_budget,
                                       double temperature, int64_t checkpoint_every,
                                       const std::string& optimizer, bool decay_vectors,
                                       const std::string& optimizer_state, bool frozen,
                                       double router_load_balance_coef, double router_z_coef) {
  auto trainer = ValueOrThrow(WithoutGil([&]() -> absl::StatusOr<std::unique_ptr<Trainer>> {
    TrainerOptions options{.token_budget = token_budget,
                           .checkpoint_every = checkpoint_every,
                           .router_load_balance_coef = router_load_balance_coef,
                           .router_z_coef = router_z_coef,
                           .temperature = temperature,
                           .adapter = std::move(adapter),
                           .optimizer = {optimizer, decay_vectors, optimizer_state}};
    if (frozen) {
      RFT_ASSIGN_OR_RETURN(options.frozen, TryTorch([&] { return model->weights(); }));
    }
    return Trainer::Create(std::move(model), options);
  }));
  return std::make_unique<PyTrainer>(std::move(trainer),
                                     "a custom loss called the trainer that is waiting for it; use "
                                     "the log-probabilities it is given");
}

py::list Forward(PyTrainer& self, const DatumList& datums) {
  return ArrayList(ValueOrThrow(self.Call([&](Trainer& t) { return t.Forward(datums); })).logprobs);
}

ForwardBackwardResult ForwardBackward(PyTrainer& self, const DatumList& datums,
                                      const std::string& loss, const py::kwargs& knobs) {
  const LossConfig config = ReadLossConfig(loss, knobs);
  return ValueOrThrow(self.Call([&](Trainer& t) { return t.ForwardBackward(datums, config); }));
}

ForwardBackwardResult ForwardBackwardCustom(PyTrainer& self, const DatumList& datums,
                                            py::function fn) {
  PythonLoss loss(std::move(fn));
  auto result =
      self.Call([&](Trainer& t) { return t.ForwardBackwardCustom(datums, loss.Callback()); });
  loss.RethrowIfRaised();
  return ValueOrThrow(std::move(result));
}

py::tuple Describe(PyTrainer& self, const DatumList& datums, int32_t top_k) {
  const Description d =
      ValueOrThrow(self.Call([&](Trainer& t) { return t.Describe(datums, top_k); }));
  py::list ids, logprobs;
  for (size_t i = 0; i < datums.size(); ++i) {
    const std::vector<py::ssize_t> shape = {static_cast<py::ssize_t>(datums[i].ids.size()), top_k};
    ids.append(py::array_t<int32_t>(shape, d.top_ids[i].data()));
    logprobs.append(py::array_t<float>(shape, d.top_logprobs[i].data()));
  }
  return py::make_tuple(ArrayList(d.logprobs), ArrayList(d.entropies), ids, logprobs);
}

ForwardBackwardResult ForwardBackwardDistillation(
    PyTrainer& self, const DatumList& datums,
    const std::vector<py::array_t<int32_t, py::array::c_style | py::array::forcecast>>& top_ids,
    const std::vector<py::array_t<float, py::array::c_style | py::array::forcecast>>& top_logprobs,
    const std::string& direction, bool tail) {
  if (direction != "forward" && direction != "reverse")
    throw StatusException(absl::InvalidArgumentError(
        absl::StrCat("direction: '", direction, "' is not one of \"forward\", \"reverse\"")));
  Description teacher;
  for (const auto& ids : top_ids) {
    if (ids.ndim() != 2)
      throw StatusException(absl::InvalidArgumentError("top_ids: arrays of [tokens, k], please"));
    teacher.top_k = static_cast<int32_t>(ids.shape(1));
    teacher.top_ids.emplace_back(ids.data(), ids.data() + ids.size());
  }
  for (const auto& logprobs : top_logprobs)
    teacher.top_logprobs.emplace_back(logprobs.data(), logprobs.data() + logprobs.size());
  const DistillationConfig config{direction == "reverse", tail};
  return ValueOrThrow(self.Call(
      [&](Trainer& t) { return t.ForwardBackwardDistillation(datums, teacher, config); }));
}

ForwardBackwardResult ForwardBackwardPreference(
    PyTrainer& self, const DatumList& datums, const std::string& loss, bool gradient,
    std::optional<double> beta, std::optional<double> label_smoothing, std::optional<double> gamma,
    std::optional<double> sft_coef, std::optional<double> desirable_weight,
    std::optional<double> undesirable_weight, double kl) {
  PreferenceConfig config = ValueOrThrow(
      TryTorch([&]() -> PreferenceConfig { return FindPreferenceLoss(loss).DefaultConfig(); }));
  config.beta = beta.value_or(config.beta);
  config.label_smoothing = label_smoothing.value_or(config.label_smoothing);
  config.gamma = gamma.value_or(config.gamma);
  config.sft_coef = sft_coef.value_or(config.sft_coef);
  config.desirable_weight = desirable_weight.value_or(config.desirable_weight);
  config.undesirable_weight = undesirable_weight.value_or(config.undesirable_weight);
  config.kl = kl;
  return ValueOrThrow(
      self.Call([&](Trainer& t) { return t.ForwardBackwardPreference(datums, config, gradient); }));
}

py::dict PlanMemory(PyTrainer& self, int64_t tokens_per_step, int64_t longest_row,
                    double predicted_part, bool sampled_from, int64_t kept_versions,
                    int64_t limit_mb) {
  const MemoryWorkload workload{tokens_per_step, longest_row, predicted_part, sampled_from,
                                kept_versions};
  return MemoryPlanDict(
      ValueOrThrow(self.Call([&](Trainer& t) { return t.PlanMemory(workload, limit_mb << 20); })));
}

OptimStepResult OptimStep(PyTrainer& self, double learning_rate, double beta1, double beta2,
                          double eps, double weight_decay, double grad_clip_norm) {
  const AdamParams params{learning_rate, beta1, beta2, eps, weight_decay, grad_clip_norm};
  return ValueOrThrow(self.Call([&](Trainer& t) { return t.OptimStep(params); }));
}

void SaveState(PyTrainer& self, const std::filesystem::path& dir,
               std::pair<int64_t, int64_t> shard) {
  ThrowIfError(self.Call([&](Trainer& t) {
    const absl::Status made = FileSystem::Default().CreateDirs(dir);
    return made.ok() ? t.SaveStateShard(dir, shard.first, shard.second) : made;
  }));
}

py::array_t<float> Gradient(PyTrainer& self, const std::string& name) {
  const Parameter& parameter = FindParameter(self.unguarded().parameters(), name);
  if (!parameter.grad.defined()) {
    throw StatusException(
        absl::FailedPreconditionError("no gradient yet: call forward_backward first"));
  }
  return CopyToNumpy(parameter.grad);
}

}  // namespace

void BindTraining(py::module_& m) {
  const AdamParams adam;
  py::class_<PyTrainer>(
      m, "Trainer",
      "The Training API's verbs over a model. Gradients of all forward_backward calls add up "
      "until optim_step divides them by the calls' denominators together.")
      .def(
          py::init(&MakeTrainer), py::arg("model"), py::arg("adapter") = nullptr, py::kw_only(),
          py::arg("token_budget") = TrainerOptions{}.token_budget,
          py::arg("temperature") = TrainerOptions{}.temperature, py::arg("checkpoint_every") = 0,
          py::arg("optimizer") = "adamw", py::arg("decay_vectors") = true,
          py::arg("optimizer_state") = "fp32", py::arg("frozen") = false,
          py::arg("router_load_balance_coef") = 0.0, py::arg("router_z_coef") = 0.0,
          "adapter: train this adapter of the model; the model itself stays as it is. "
          "optimizer: adamw, muon or sgd; optimizer_state: fp32, or bf16 or int8 for adamw. "
          "decay_vectors: weight decay on norms and biases, too. "
          "frozen: only scores, with the model's weights as they are now, whoever trains it later. "
          "checkpoint_every: activations of every n-th layer are computed again in the backward "
          "instead of being kept. token_budget: computed tokens per micro-batch. temperature: "
          "log-probabilities are of "
          "softmax(logits / temperature). router_*_coef: auxiliary losses of a mixture of experts.")
      .def("forward", &Forward, py::arg("datums"),
           "One float32 array per datum: nats of each token, 0 where its weight is 0. Changes "
           "nothing.\n\n"
           "Raises ConfigError naming the datum and the field, ResourceError.")
      .def("forward_backward", &ForwardBackward, py::arg("datums"), py::arg("loss") = "grpo",
           "Adds the loss's gradient to the accumulated one. Keywords are the loss's knobs as in "
           "run.yaml's `losses:` "
           "(clip_high=0.28, correction={\"level\": \"token\"}); those left out have the loss's "
           "own defaults.\n\n"
           "Raises ConfigError for an unknown loss or knob (\"did you mean\") and as forward.")
      .def("forward_backward_custom", &ForwardBackwardCustom, py::arg("datums"), py::arg("fn"),
           "As forward_backward with your own loss: fn(list of logprob arrays) -> (loss_sum, list "
           "of d loss / d logprob"
           "[, metrics[, denominator]]). What fn raises comes out of this call; the accumulated "
           "gradient is unchanged then.")
      .def("describe", &Describe, py::arg("datums"), py::arg("top_k") = 0,
           "As forward, and more of each position: (logprobs, entropies, top ids, top logprobs), "
           "the last two of shape [tokens, top_k], best first; -1 and 0 where the weight is 0.")
      .def(
          "forward_backward_preference", &ForwardBackwardPreference, py::arg("datums"),
          py::arg("loss") = "dpo", py::kw_only(), py::arg("gradient") = true,
          py::arg("beta") = py::none(), py::arg("label_smoothing") = py::none(),
          py::arg("gamma") = py::none(), py::arg("sft_coef") = py::none(),
          py::arg("desirable_weight") = py::none(), py::arg("undesirable_weight") = py::none(),
          py::arg("kl") = 0.0,
          "A preference loss over whole completions: datums 2 i and 2 i + 1 are the chosen and the "
          "rejected completion of one prompt (kto: any, desirable where the advantages are above "
          "0). Those with a reference read ref_logprobs. gradient=False: loss and metrics only.\n\n"
          "Raises ConfigError for an unknown loss and as forward.")
      .def(
          "check_export",
          [](PyTrainer& self, const std::filesystem::path& dir, const DatumList& datums) {
            return ValueOrThrow(self.Call([&](Trainer& t) { return t.CheckExport(dir, datums); }));
          },
          py::arg("dir"), py::arg("datums") = py::tuple(),
          "What save_model wrote, read again: every tensor must be the trainer's rounded to bf16, "
          "and the folder, loaded as a model, must score the datums as the trainer does. Returns "
          "the mean |difference| in nats; None without datums or memory for a second model.\n\n"
          "Raises DataLossError naming the tensor or the difference.")
      .def("plan_memory", &PlanMemory, py::kw_only(), py::arg("tokens_per_step") = 0,
           py::arg("longest_row") = 0, py::arg("predicted_part") = 1.0,
           py::arg("sampled_from") = false, py::arg("kept_versions") = 0, py::arg("limit_mb") = 0,
           "Before the first step: what will be used for what (items, total_bytes, text), and "
           "micro-batches (token_budget) made to fit into limit_mb MiB; 0: what the machine has "
           "left. A model on another device: items say which are there, total_bytes and the limit "
           "are of it, "
           "host_bytes of this process.\n\nRaises ResourceError where even the longest row doesn't "
           "fit.")
      .def("forward_backward_distillation", &ForwardBackwardDistillation, py::arg("datums"),
           py::arg("top_ids"), py::arg("top_logprobs"), py::kw_only(),
           py::arg("direction") = "forward", py::arg("tail") = true,
           "Adds the gradient of the divergence from a teacher: its describe(datums, top_k)[2:], "
           "what it finds most likely at each position. forward: sum p log(p / q), reverse: sum q "
           "log(q / p), q ours; tail: all other tokens are one outcome more. Several teachers: a "
           "call each.\n\nRaises ConfigError naming the datum, and as forward.")
      .def("optim_step", &OptimStep, py::arg("learning_rate") = adam.learning_rate,
           py::arg("beta1") = adam.beta1, py::arg("beta2") = adam.beta2, py::arg("eps") = adam.eps,
           py::arg("weight_decay") = adam.weight_decay,
           py::arg("grad_clip_norm") = adam.grad_clip_norm,
           "A step of the optimizer on the accumulated gradient, which is cleared (sgd reads beta1 "
           "only). grad_clip_norm 0: no clipping.\n\n"
           "Raises StateError if nothing has been accumulated.")
      .def(
          "zero_grad", [](PyTrainer& self) { self.Call([](Trainer& t) { t.ZeroGrad(); }); },
          "Forgets the accumulated gradient.")
      .def("save_state", &SaveState, py::arg("dir"), py::arg("shard") = std::make_pair(0, 1),
           "Weights, optimizer state and step count into a folder (made if missing). shard=(i, n): "
           "only the i-th of n parts of every tensor, as NAME[begin:end]; load_state reads what n "
           "such calls, or processes, have left.")
      .def(
          "load_state",
          [](PyTrainer& self, const std::filesystem::path& dir) {
            ThrowIfError(self.Call([&](Trainer& t) { return t.LoadState(dir); }));
          },
          py::arg("dir"),
          "What save_state wrote. Raises NotFoundError, DataLossError, ConfigError (another "
          "model).")
      .def(
          "save_model",
          [](PyTrainer& self, const std::filesystem::path& dir) {
            ThrowIfError(self.Call([&](Trainer& t) { return t.SaveModel(dir); }));
          },
          py::arg("dir"),
          "A Hugging Face folder that transformers and rft load; a trained adapter is merged in.")
      .def(
          "save_adapter",
          [](PyTrainer& self, const std::filesystem::path& dir) {
            ThrowIfError(self.Call([&](Trainer& t) { return t.SaveAdapter(dir); }));
          },
          py::arg("dir"),
          "The trained adapter in PEFT's format. Raises StateError where the whole model is "
          "trained.")
      .def(
          "save_delta",
          [](PyTrainer& self, const std::filesystem::path& dir) {
            ThrowIfError(self.Call([&](Trainer& t) { return t.SaveDelta(dir); }));
          },
          py::arg("dir"),
          "What another sampler puts on the same base: the trained adapter in PEFT's format; of a "
          "whole model a folder with the numbers that have changed in bf16, which Model.load reads "
          "like the model itself.")
      .def(
          "weights",
          [](PyTrainer& self) {
            return std::const_pointer_cast<PublishedWeights>(
                ValueOrThrow(self.Call([](Trainer& t) { return t.SaveWeightsForSampler(); })));
          },
          "The current weights, for Engine.publish: a pointer, not a copy.")
      .def(
          "follow",
          [](PyTrainer& self, const PyTrainer& other, double decay) {
            ThrowIfError(self.Call([&](Trainer& t) { return t.Follow(other.unguarded(), decay); }));
          },
          py::arg("other"), py::arg("decay"),
          "Moves what is trained here towards what `other` trains, own = decay * own + (1 - decay) "
          "* other's, as a new version: an exponential moving average. `other` must not be in a "
          "call meanwhile. Raises ConfigError if their parameters differ.")
      .def("gradient", &Gradient, py::arg("name"),
           "A float32 copy of the raw accumulated gradient of one parameter (a sum: no "
           "denominator, no clipping).")
      .def_property_readonly(
          "model", [](const PyTrainer& self) { return self.unguarded().model(); },
          "The model trained, or the base of the adapter that is.")
      .def_property_readonly(
          "sampler_model",
          [](PyTrainer& self) {
            return ValueOrThrow(self.Call([](Trainer& t) { return t.SamplerModel(); }));
          },
          "The model whose versions `weights` gives, for an Engine: `model`, or, where that is on "
          "another device, its copy on the CPU.")
      .def_property_readonly(
          "adapter", [](const PyTrainer& self) { return self.unguarded().adapter(); },
          "The adapter trained; None when it is the whole model.")
      .def_property_readonly(
          "num_steps", [](const PyTrainer& self) { return self.unguarded().num_steps(); },
          "Optimizer steps taken; restored by load_state.")
      .def("__repr__", [](const PyTrainer& self) {
        const CausalLm& model = *self.unguarded().model();
        return absl::StrCat("<rft.Trainer of ", model.config().architecture, " (",
                            ShortCount(model.parameters().num_parameters()), " parameters), ",
                            self.unguarded().num_steps(), " steps taken>");
      });
}

}  // namespace rft::python
