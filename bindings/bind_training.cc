#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "absl/strings/str_cat.h"
#include "bindings/arrays.h"
#include "bindings/custom_loss.h"
#include "bindings/errors.h"
#include "bindings/exclusive.h"
#include "bindings/loss_knobs.h"
#include "bindings/module.h"
#include "bindings/parameters.h"
#include "bindings/python_values.h"
#include "rft/core/file_system.h"
#include "rft/train/trainer.h"

namespace rft::python {
namespace {

using PyTrainer = Exclusive<Trainer>;

Datum MakeDatum(const py::object& ids, const py::object& weights, const py::object& advantages, const py::object& old_logprobs,
                const py::object& sampling_logprobs, const py::object& ref_logprobs, int64_t prefix_id, int32_t prefix_length) {
  Datum datum;
  datum.ids = ToTokenIds(ids, "ids");
  datum.weights = ToFloats(weights, "weights");
  datum.advantages = ToFloats(advantages, "advantages");
  datum.old_logprobs = ToFloats(old_logprobs, "old_logprobs");
  datum.sampling_logprobs = ToFloats(sampling_logprobs, "sampling_logprobs");
  datum.ref_logprobs = ToFloats(ref_logprobs, "ref_logprobs");
  datum.prefix_id = prefix_id;
  datum.prefix_length = prefix_length;
  return datum;
}

template <typename Class>
void FloatsProperty(Class& bound, const char* name, std::vector<float> Datum::*member, const char* doc) {
  bound.def_property(
      name, [member](const Datum& d) { return ReadOnlyArray(d.*member); },
      [member, name](Datum& d, const py::object& values) { d.*member = ToFloats(values, name); }, doc);
}

void BindDatum(py::module_& m) {
  const py::tuple none;
  py::class_<Datum> datum(m, "Datum",
                          "One training row. Every vector is as long as ids, and entry t belongs to ids[t] given ids[:t]; the "
                          "first entry has no prediction, so weights[0] must be 0. Reading a vector gives a read-only copy; "
                          "assign a whole one to change it.");
  datum.def(py::init(&MakeDatum), py::arg("ids"), py::arg("weights"), py::arg("advantages") = none,
            py::arg("old_logprobs") = none, py::arg("sampling_logprobs") = none, py::arg("ref_logprobs") = none,
            py::arg("prefix_id") = -1, py::arg("prefix_length") = 0,
            "Lists or arrays. weights: SFT weight or loss mask, 0 = not trained on. Log-probabilities in nats; empty "
            "old_logprobs: on-policy; empty sampling_logprobs: equal to old_logprobs; ref_logprobs: for a loss with kl_coef. "
            "Datums of one prefix_id >= 0 share their first prefix_length tokens, which are computed once.");
  datum.def_property(
      "ids", [](const Datum& d) { return ReadOnlyArray(d.ids); },
      [](Datum& d, const py::object& values) { d.ids = ToTokenIds(values, "ids"); }, "Prompt and completion, int32.");
  FloatsProperty(datum, "weights", &Datum::weights, "SFT weights or loss mask, float32; 0 = not trained on.");
  FloatsProperty(datum, "advantages", &Datum::advantages, "Per token, float32; empty for losses that need none.");
  FloatsProperty(datum, "old_logprobs", &Datum::old_logprobs, "Nats, of the policy before the step's first update.");
  FloatsProperty(datum, "sampling_logprobs", &Datum::sampling_logprobs, "Nats, of the distribution sampled from.");
  FloatsProperty(datum, "ref_logprobs", &Datum::ref_logprobs, "Nats, of the reference model.");
  datum.def_readwrite("prefix_id", &Datum::prefix_id, "Datums with the same id >= 0 share a prefix; -1: none.");
  datum.def_readwrite("prefix_length", &Datum::prefix_length, "Tokens of the shared prefix.");
  datum.def("__len__", [](const Datum& d) { return d.ids.size(); });
  datum.def("__repr__", [](const Datum& d) {
    int64_t active = 0;
    for (const float w : d.weights) active += w != 0.0f;
    return absl::StrCat("<rft.Datum ", d.ids.size(), " tokens, ", active, " trained on",
                        d.prefix_id >= 0 ? absl::StrCat(", prefix ", d.prefix_id, " of ", d.prefix_length) : "", ">");
  });
}

void BindResults(py::module_& m) {
  py::class_<ForwardBackwardResult>(m, "FBResult", "What forward_backward says about its datums.")
      .def_readonly("loss_sum", &ForwardBackwardResult::loss_sum, "Raw sum, before any denominator.")
      .def_property_readonly("logprobs", [](const ForwardBackwardResult& r) { return ArrayList(r.logprobs); },
                             "One float32 array per datum: nats of each token, 0 where its weight is 0.")
      .def_readonly("metrics", &ForwardBackwardResult::metrics, "Means over the active tokens, by name (docs/losses.md).")
      .def_readonly("num_tokens", &ForwardBackwardResult::num_tokens, "Active tokens.")
      .def_readonly("num_rows", &ForwardBackwardResult::num_rows, "Datums with an active token.")
      .def_readonly("num_computed_tokens", &ForwardBackwardResult::num_computed_tokens,
                    "Positions that went through the model; a shared prefix counts once.")
      .def_readonly("finite", &ForwardBackwardResult::finite,
                    "False: a NaN or infinity was seen, and optim_step will skip the accumulated gradient.")
      .def("__repr__", [](const ForwardBackwardResult& r) {
        return absl::StrCat("<rft.FBResult loss_sum ", ShortNumber(r.loss_sum), ", ", r.num_tokens, " tokens of ", r.num_rows,
                            " rows", r.finite ? "" : ", NOT FINITE", ">");
      });
  py::class_<OptimStepResult>(m, "OptimResult", "What optim_step did.")
      .def_readonly("grad_norm", &OptimStepResult::grad_norm, "Of the normalised gradient, before clipping.")
      .def_readonly("skipped", &OptimStepResult::skipped, "True: the gradient was not finite and nothing has changed.")
      .def_readonly("version", &OptimStepResult::version, "Weight version after the step.")
      .def("__repr__", [](const OptimStepResult& r) {
        return absl::StrCat("<rft.OptimResult version ", r.version, ", grad_norm ", ShortNumber(r.grad_norm),
                            r.skipped ? ", SKIPPED" : "", ">");
      });
}

std::unique_ptr<PyTrainer> MakeTrainer(std::shared_ptr<CausalLm> model, int64_t token_budget, double temperature) {
  auto trainer = ValueOrThrow(WithoutGil([&] {
    return Trainer::Create(std::move(model), {.token_budget = token_budget, .temperature = temperature});
  }));
  return std::make_unique<PyTrainer>(std::move(trainer),
                                     "a custom loss called the trainer that is waiting for it; use the log-probabilities it is given");
}

py::list Forward(PyTrainer& self, const std::vector<Datum>& datums) {
  return ArrayList(ValueOrThrow(self.Call([&](Trainer& t) { return t.Forward(datums); })).logprobs);
}

ForwardBackwardResult ForwardBackward(PyTrainer& self, const std::vector<Datum>& datums, const std::string& loss,
                                      const py::kwargs& knobs) {
  const LossConfig config = ReadLossConfig(loss, knobs);
  return ValueOrThrow(self.Call([&](Trainer& t) { return t.ForwardBackward(datums, config); }));
}

ForwardBackwardResult ForwardBackwardCustom(PyTrainer& self, const std::vector<Datum>& datums, py::function fn) {
  PythonLoss loss(std::move(fn));
  auto result = self.Call([&](Trainer& t) { return t.ForwardBackwardCustom(datums, loss.Callback()); });
  loss.RethrowIfRaised();
  return ValueOrThrow(std::move(result));
}

OptimStepResult OptimStep(PyTrainer& self, double learning_rate, double beta1, double beta2, double eps, double weight_decay,
                          double grad_clip_norm) {
  const AdamParams params{learning_rate, beta1, beta2, eps, weight_decay, grad_clip_norm};
  return ValueOrThrow(self.Call([&](Trainer& t) { return t.OptimStep(params); }));
}

void SaveState(PyTrainer& self, const std::string& dir) {
  ThrowIfError(self.Call([&](Trainer& t) {
    const absl::Status made = FileSystem::Default().CreateDirs(dir);
    return made.ok() ? t.SaveState(dir) : made;
  }));
}

py::array_t<float> Gradient(PyTrainer& self, const std::string& name) {
  const Parameter& parameter = FindParameter(*self.unguarded().model(), name);
  if (!parameter.grad.defined()) {
    throw StatusException(absl::FailedPreconditionError("no gradient yet: call forward_backward first"));
  }
  return CopyToNumpy(parameter.grad);
}

}  // namespace

void BindTraining(py::module_& m) {
  BindDatum(m);
  BindResults(m);
  const AdamParams adam;
  py::class_<PyTrainer>(m, "Trainer", "The Training API's verbs over a model. Gradients of all forward_backward calls add up "
                                          "until optim_step divides them by the calls' denominators together.")
      .def(py::init(&MakeTrainer), py::arg("model"), py::kw_only(), py::arg("token_budget") = TrainerOptions{}.token_budget,
           py::arg("temperature") = TrainerOptions{}.temperature,
           "token_budget: computed tokens per micro-batch. temperature: log-probabilities are of softmax(logits / temperature).")
      .def("forward", &Forward, py::arg("datums"),
           "One float32 array per datum: nats of each token, 0 where its weight is 0. Changes nothing.\n\n"
           "Raises ConfigError naming the datum and the field, ResourceError.")
      .def("forward_backward", &ForwardBackward, py::arg("datums"), py::arg("loss") = "grpo",
           "Adds the loss's gradient to the accumulated one. Keywords are the loss's knobs as in run.yaml's `losses:` "
           "(clip_high=0.28, correction={\"level\": \"token\"}); those left out have the loss's own defaults.\n\n"
           "Raises ConfigError for an unknown loss or knob (\"did you mean\") and as forward.")
      .def("forward_backward_custom", &ForwardBackwardCustom, py::arg("datums"), py::arg("fn"),
           "As forward_backward with your own loss: fn(list of logprob arrays) -> (loss_sum, list of d loss / d logprob"
           "[, metrics[, denominator]]). What fn raises comes out of this call; the accumulated gradient is unchanged then.")
      .def("optim_step", &OptimStep, py::arg("learning_rate") = adam.learning_rate, py::arg("beta1") = adam.beta1,
           py::arg("beta2") = adam.beta2, py::arg("eps") = adam.eps, py::arg("weight_decay") = adam.weight_decay,
           py::arg("grad_clip_norm") = adam.grad_clip_norm,
           "AdamW on the accumulated gradient, which is cleared. grad_clip_norm 0: no clipping.\n\n"
           "Raises StateError if nothing has been accumulated.")
      .def("zero_grad", [](PyTrainer& self) { self.Call([](Trainer& t) { t.ZeroGrad(); }); }, "Forgets the accumulated gradient.")
      .def("save_state", &SaveState, py::arg("dir"), "Weights, optimizer state and step count into a folder (made if missing).")
      .def("load_state", [](PyTrainer& self, const std::string& dir) {
             ThrowIfError(self.Call([&](Trainer& t) { return t.LoadState(dir); }));
           }, py::arg("dir"), "What save_state wrote. Raises NotFoundError, DataLossError, ConfigError (another model).")
      .def("save_model", [](PyTrainer& self, const std::string& dir) {
             ThrowIfError(self.Call([&](Trainer& t) { return t.SaveModel(dir); }));
           }, py::arg("dir"), "A Hugging Face folder that transformers and rft load.")
      .def("weights", [](PyTrainer& self) {
             return std::const_pointer_cast<PublishedWeights>(
                 ValueOrThrow(self.Call([](Trainer& t) { return t.SaveWeightsForSampler(); })));
           }, "The current weights, for Engine.publish: a pointer, not a copy.")
      .def("gradient", &Gradient, py::arg("name"),
           "A float32 copy of the raw accumulated gradient of one parameter (a sum: no denominator, no clipping).")
      .def_property_readonly("model", [](const PyTrainer& self) { return self.unguarded().model(); }, "The model trained.")
      .def_property_readonly("num_steps", [](const PyTrainer& self) { return self.unguarded().num_steps(); },
                             "Optimizer steps taken; restored by load_state.")
      .def("__repr__", [](const PyTrainer& self) {
        const CausalLm& model = *self.unguarded().model();
        return absl::StrCat("<rft.Trainer of ", model.config().architecture, " (",
                            ShortCount(model.parameters().num_parameters()), " parameters), ", self.unguarded().num_steps(),
                            " steps taken>");
      });
}

}  // namespace rft::python
