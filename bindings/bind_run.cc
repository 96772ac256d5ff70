#include <filesystem>
#include <memory>
#include <mutex>
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
#include "bindings/errors.h"
#include "bindings/exclusive.h"
#include "bindings/grader_values.h"
#include "bindings/module.h"
#include "bindings/python_values.h"
#include "rft/run/run.h"

namespace rft::python {
namespace {

// A run whose figures can be read from other threads (a progress display) while a step is in progress: they are those of
// the last finished call.
class PyRun {
 public:
  // `loss` may be null; `run` calls it.
  PyRun(std::unique_ptr<Run> run, std::unique_ptr<PythonLoss> loss)
      : loss_(std::move(loss)),
        run_(std::move(run), "the run was called from inside one of its own calls"),
        progress_(ProgressOf(run_.unguarded())) {}

  struct Progress {
    int64_t step_index = 0;
    int64_t tokens_sampled = 0;
    std::string stop_reason;
  };

  template <typename F>
  auto Call(F&& body) {
    return run_.Call([&](Run& run) {
      auto result = body(run);
      std::lock_guard<std::mutex> lock(mutex_);
      progress_ = ProgressOf(run);
      return result;
    });
  }

  Progress progress() const {
    std::lock_guard<std::mutex> lock(mutex_);
    return progress_;
  }
  void RethrowFromLoss() const {
    if (loss_) loss_->RethrowIfRaised();
  }
  // What never changes, and RequestStop.
  Run& run() { return run_.unguarded(); }
  const Run& run() const { return run_.unguarded(); }

 private:
  static Progress ProgressOf(const Run& run) {
    return {run.step_index(), run.tokens_sampled(), run.stop_reason()};
  }

  const std::unique_ptr<PythonLoss> loss_;  // outlives the run
  Exclusive<Run> run_;
  mutable std::mutex mutex_;
  Progress progress_;
};

std::unique_ptr<PyRun> MakeRun(const RunConfig& config, std::shared_ptr<TextCodec> codec,
                               const py::iterable& graders, const std::string& resume_dir,
                               std::optional<py::function> loss) {
  std::vector<GraderSpec> extra = ToGraderSpecs(graders);
  if (loss) ThrowIfError(Run::CheckForLossOfCaller(config));  // before there is a run folder
  auto run = ValueOrThrow(WithoutGil(
      [&] { return Run::Create(config, std::move(codec), std::move(extra), resume_dir); }));
  std::unique_ptr<PythonLoss> custom;
  if (loss) {
    custom = std::make_unique<PythonLoss>(*std::move(loss));
    ThrowIfError(run->SetLoss(custom->BatchCallback()));
  }
  return std::make_unique<PyRun>(std::move(run), std::move(custom));
}

std::optional<StepReport> Next(PyRun& self) {
  const NextStep next = self.Call([](Run& run) { return run.Next(); });
  self.RethrowFromLoss();
  ThrowIfError(next.status());
  return next.value();
}

py::list Samples(const EvalReport& report) {
  py::list list;
  for (const EvalSample& s : report.samples) {
    list.append(py::dict(py::arg("row") = s.row, py::arg("prompt") = s.prompt,
                         py::arg("completion") = s.completion, py::arg("reward") = s.reward,
                         py::arg("grades") = s.grades));
  }
  return list;
}

void BindReports(py::module_& m) {
  py::class_<StepReport>(m, "StepReport",
                         "What one optimizer step did. Figures that could not be measured are NaN.")
      .def_readonly("index", &StepReport::index, "Counts from 0.")
      .def_readonly("reward_mean", &StepReport::reward_mean,
                    "Over all scored rollouts, those of dropped groups included.")
      .def_readonly("reward_std", &StepReport::reward_std)
      .def_readonly("kl_max", &StepReport::kl_max,
                    "Nats: largest per-rollout KL(policy sampled from || policy trained), k3.")
      .def_readonly("loss", &StepReport::loss, "Of the step's first update.")
      .def_readonly("grad_norm", &StepReport::grad_norm, "Of the last update, before clipping.")
      .def_readonly("learning_rate", &StepReport::learning_rate)
      .def_readonly("num_groups", &StepReport::num_groups, "Groups trained on.")
      .def_readonly("num_filtered", &StepReport::num_filtered, "Groups sampled, but dropped.")
      .def_readonly("tokens_sampled", &StepReport::tokens_sampled)
      .def_readonly("completion_length_mean", &StepReport::completion_length_mean, "Tokens.")
      .def_readonly("seconds", &StepReport::seconds, "sample_s + train_s.")
      .def_readonly("sample_s", &StepReport::sample_s, "Sampling and grading.")
      .def_readonly("train_s", &StepReport::train_s, "From datums to the published weights.")
      .def_readonly("logprob_diff_max", &StepReport::logprob_diff_max,
                    "Nats: sampler against trainer, on the tokens trained on.")
      .def_readonly("skipped", &StepReport::skipped,
                    "True: the weights did not change, or not by every update.")
      .def_readonly("metrics", &StepReport::metrics,
                    "Everything written to metrics.jsonl, by name.")
      .def("__repr__", [](const StepReport& r) {
        return absl::StrCat("<rft.StepReport ", r.index, ": reward ", ShortNumber(r.reward_mean),
                            ", ", r.num_groups, " groups (", r.num_filtered, " filtered), kl_max ",
                            ShortNumber(r.kl_max), ", grad_norm ", ShortNumber(r.grad_norm), ", ",
                            ShortNumber(r.seconds), " s", r.skipped ? ", SKIPPED" : "", ">");
      });
  py::class_<EvalReport>(m, "EvalReport", "Rewards on data.heldout.")
      .def_readonly("reward_mean", &EvalReport::reward_mean, "Over the rows that could be judged.")
      .def_readonly("num_rows", &EvalReport::num_rows)
      .def_property_readonly(
          "rewards", [](const EvalReport& r) { return ReadOnlyArray(r.rewards); },
          "Per row, float64: the mean over its samples; NaN when none could be judged.")
      .def_readonly("metrics", &EvalReport::metrics,
                    "grader/<name> means, completion_length_mean, ...")
      .def_property_readonly(
          "samples", &Samples,
          "First sample of each row: dicts of row, prompt, completion, reward, grades.")
      .def("__repr__", [](const EvalReport& r) {
        return absl::StrCat("<rft.EvalReport reward ", ShortNumber(r.reward_mean), " over ",
                            r.num_rows, " rows>");
      });
}

}  // namespace

void BindRun(py::module_& m) {
  BindReports(m);
  py::class_<PyRun>(
      m, "Run",
      "One run from a configuration to a tuned model. rft.Run is the friendlier face of it.")
      .def(
          py::init(&MakeRun), py::arg("config"), py::arg("codec"), py::arg("graders") = py::tuple(),
          py::arg("resume_dir") = "", py::arg("loss") = py::none(),
          "Loads model, datasets and graders and makes the run folder. graders: dicts of name, "
          "type, weight, deadline_s, params; "
          "one of a configured name replaces it. resume_dir: a run folder to go on with. loss: in "
          "place of losses.name, fn(datums, list of float32 arrays) -> (loss_sum, list of d loss / "
          "d logprob[, metrics[, denominator]]).\n\n"
          "Raises ConfigError (key, file and line of what is wrong), NotFoundError, StateError (a "
          "Python grader that can't be "
          "loaded), Error (config.run_dir holds a run already).")
      .def("next", &Next,
           "One step; None when the run is over (stop_reason says why). After an error the run can "
           "only be finished.")
      .def(
          "evaluate",
          [](PyRun& self) {
            return ValueOrThrow(self.Call([](Run& run) { return run.Evaluate(); }));
          },
          "Mean reward on data.heldout with the current weights; changes nothing. Raises "
          "StateError without data.heldout.")
      .def(
          "save",
          [](PyRun& self, const std::filesystem::path& dir) {
            ThrowIfError(self.Call([&](Run& run) { return run.Save(dir); }));
          },
          py::arg("dir"), "The current model as a Hugging Face folder.")
      .def(
          "request_stop", [](PyRun& self) { self.run().RequestStop(); },
          "The step in progress is finished, then next() returns None. From any thread.")
      .def(
          "finish",
          [](PyRun& self) { ThrowIfError(self.Call([](Run& run) { return run.Finish(); })); },
          "Last checkpoint, evaluation after training, model/ and summary.json; ends engine and "
          "grader processes. Idempotent.")
      .def_property_readonly(
          "dir", [](const PyRun& self) { return self.run().dir(); }, "The run folder.")
      .def_property_readonly(
          "num_steps", [](const PyRun& self) { return self.run().num_steps(); },
          "Configured steps.")
      .def_property_readonly(
          "memory_plan",
          [](const PyRun& self) -> py::object {
            const auto& plan = self.run().memory_plan();
            return plan ? py::object(MemoryPlanDict(*plan)) : py::none();
          },
          "What was planned before the first step, as Trainer.plan_memory says it.")
      .def_property_readonly(
          "step_index", [](const PyRun& self) { return self.progress().step_index; },
          "Steps done so far.")
      .def_property_readonly(
          "tokens_sampled", [](const PyRun& self) { return self.progress().tokens_sampled; },
          "Sampled for training so far.")
      .def_property_readonly(
          "stop_reason", [](const PyRun& self) { return self.progress().stop_reason; },
          "Why the run ended; \"\" while it goes on.")
      .def("__repr__", [](const PyRun& self) {
        const PyRun::Progress p = self.progress();
        return absl::StrCat("<rft._rft.Run step ", p.step_index, " of ", self.run().num_steps(),
                            " in ", self.run().dir(), p.stop_reason.empty() ? "" : ": ",
                            p.stop_reason, ">");
      });
}

}  // namespace rft::python
