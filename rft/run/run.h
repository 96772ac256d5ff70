// One run from a configuration to a tuned model: the only class that joins all the rooms.
//
//   auto config = rft::ReadRunConfig("run.yaml");
//   auto run = rft::Run::Create(*config, codec);
//   (*run)->AddGrader("short", [](const rft::GradeInput& in) { return in.completion.size() < 80; });
//   while (auto step = (*run)->Next()) std::cout << step->index << " " << step->reward_mean << "\n";
//   absl::Status status = (*run)->Finish();
//
// A step:  orchestrator (sample, grade, filter) ─▶ journal, rollouts.jsonl ─▶ update (datums, loss, optimizer)
//              ▲                                                                   │
//              └───────────── engine.Publish ◀── SaveWeightsForSampler ◀───────────┘ ─▶ metrics.jsonl, checkpoint
//
// Thread safety: belongs to one thread, except RequestStop. Destruction without Finish writes nothing.
#pragma once

#include <atomic>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "graders/function_grader.h"
#include "graders/grader_pool.h"
#include "rft/api/text_codec.h"
#include "rft/api/text_generator.h"
#include "rft/config/run_config.h"
#include "rft/core/file_system.h"
#include "rft/io/journal.h"
#include "rft/run/checkpoint.h"
#include "rft/run/reports.h"
#include "rft/run/run_folder.h"
#include "rft/run/run_parts.h"
#include "rft/run/update.h"
#include "rollout/orchestrator.h"

namespace rft {

// What Run::Next gives: a step, the end of the run, or an error. True if it is a step.
class NextStep {
 public:
  NextStep(StepReport report)
      : report_(std::move(report)) {}  // NOLINT(google-explicit-constructor)
  NextStep(std::nullopt_t) {}          // NOLINT(google-explicit-constructor)
  NextStep(absl::Status error)
      : status_(std::move(error)) {}  // NOLINT(google-explicit-constructor)

  explicit operator bool() const { return report_.has_value(); }
  const StepReport& operator*() const { return *report_; }
  const StepReport* operator->() const { return &*report_; }

  bool ok() const { return status_.ok(); }  // a step, or the end
  const absl::Status& status() const { return status_; }
  const std::optional<StepReport>& value() const { return report_; }  // nullopt at the end

 private:
  absl::Status status_;
  std::optional<StepReport> report_;
};

class Run {
 public:
  // Loads model, datasets and graders, and makes the run folder; `extra_graders` come after those of the configuration (one
  // of the same name replaces it). With `resume_dir`, goes on with that folder from its newest intact checkpoint, or from
  // the start if it has none.
  // Errors name the key, file and line: kInvalidArgument (bad configuration, dataset, prompt longer than the context, ...),
  // kNotFound, kAlreadyExists (config.run_dir holds a run), kFailedPrecondition (Python graders that can't be loaded).
  // No folder is left behind by an error.
  static absl::StatusOr<std::unique_ptr<Run>> Create(RunConfig config,
                                                     std::shared_ptr<const TextCodec> codec,
                                                     std::vector<GraderSpec> extra_graders = {},
                                                     const std::string& resume_dir = "");
  // The same with parts made by the caller.
  static absl::StatusOr<std::unique_ptr<Run>> CreateWith(RunParts parts, RunConfig config,
                                                         std::shared_ptr<const TextCodec> codec,
                                                         std::vector<GraderSpec> extra_graders = {},
                                                         const std::string& resume_dir = "",
                                                         FileSystem& fs = FileSystem::Default());
  ~Run();
  Run(const Run&) = delete;
  Run& operator=(const Run&) = delete;

  // Before the first Next or Evaluate. GraderPool::AddGrader's errors.
  absl::Status AddGrader(const GraderSpec& spec, std::unique_ptr<Grader> grader);
  // A lambda that returns a Grade or a number.
  template <typename Function>
  absl::Status AddGrader(const std::string& name, Function function, double weight = 1.0) {
    return AddGrader(GraderSpec{.name = name, .weight = weight},
                     MakeFunctionGrader(std::move(function)));
  }

  // A loss of the caller's in place of config.losses.name. Before the first Next. With losses.kl_coef above 0 the datums have
  // ref_logprobs; what to do with them is up to the loss. Errors: CheckForLossOfCaller's.
  absl::Status SetLoss(BatchLoss loss);
  // kInvalidArgument if `losses:` sets what only a registered loss reads: anything but name, kl_coef and kl_target.
  static absl::Status CheckForLossOfCaller(const RunConfig& config);

  // One step. The first call evaluates on data.heldout first, where there is one and Evaluate has not been called.
  // False at the end of the run (stop_reason() says why) and on an error, after which the run can only be finished.
  NextStep Next();

  // On data.heldout, with the current weights. kFailedPrecondition without data.heldout or graders.
  absl::StatusOr<EvalReport> Evaluate();

  // The current model as a Hugging Face folder.
  absl::Status Save(const std::string& dir);

  // Last checkpoint, evaluation after training (not after RequestStop or an error), model/, summary.json; ends engine and
  // graders, whatever fails. A run that made no step leaves neither checkpoint nor model. Idempotent.
  absl::Status Finish();

  // The step in progress is finished, then Next says that the run is over. From any thread; async-signal-safe.
  void RequestStop() { stop_requested_.store(true); }

  const RunConfig& config() const { return config_; }
  const std::string& dir() const { return folder_->dir(); }
  int64_t num_steps() const { return config_.trainer.steps; }       // configured
  int64_t step_index() const { return state_.step; }                // done so far
  int64_t tokens_sampled() const { return state_.tokens_sampled; }  // for training
  const std::string& stop_reason() const { return stop_reason_; }   // "" while it goes on
  // What was planned before the first step; nullopt where the trainer is not in this process.
  const std::optional<MemoryPlan>& memory_plan() const { return memory_plan_; }
  InferenceEngine& engine() { return *parts_.engine; }
  TrainingClient& trainer() { return *parts_.trainer; }

 private:
  using Rows = std::vector<std::shared_ptr<const Row>>;
  struct Checked {
    Rows train, heldout;
    std::shared_ptr<const TokenGrammar> grammar;
    std::unique_ptr<GraderPool> graders;
  };

  Run(RunParts parts, RunConfig config, std::shared_ptr<const TextCodec> codec);

  // Everything that can be found wrong without a model: configuration, folder, grammar, graders (started), datasets and whether they have
  // the columns that graders read, in this order.
  static absl::StatusOr<Checked> Check(const RunConfig& config, const TextCodec* codec,
                                       const std::string& resume_dir, FileSystem& fs);
  static absl::StatusOr<std::unique_ptr<Run>> Assemble(RunParts parts, RunConfig config,
                                                       std::shared_ptr<const TextCodec> codec,
                                                       Checked checked,
                                                       const std::string& resume_dir,
                                                       FileSystem& fs);
  absl::Status EncodeData(const Checked& data, FileSystem& fs);
  absl::Status PlanMemory();
  absl::Status OpenFolder(const std::string& resume_dir, FileSystem& fs);
  absl::Status Restore();
  absl::StatusOr<bool> SameGraders();
  absl::Status OpenJournal(bool replay);
  absl::Status Publish();
  GradeFunction GradeWithPool(int64_t group_size);

  absl::Status Begin();
  bool IsOver();
  absl::StatusOr<StepReport> Step();
  absl::Status WriteRollouts(const StepBatch& batch);
  absl::Status RaiseAlarms(const StepBatch& batch);
  void KeepSome(const StepBatch& batch, const DatumOptions& options);
  void CountSignal(const StepBatch& batch);
  absl::Status CountNotFinite(const StepBatch& batch, const UpdateResult& update);
  absl::Status SaveCheckpointNow();
  StepReport MakeReport(const StepBatch& batch, const UpdateResult& update, double learning_rate,
                        double train_s);
  absl::Status EvaluateOnTheWay(StepReport* report);
  absl::Status WriteMetrics(const StepReport& report);
  absl::Status SaveResults();
  absl::Status SaveCheckedModel(const std::optional<EvalReport>& after);
  std::string SummaryJson(const std::optional<EvalReport>& after) const;
  void ShutDownParts();

  RunParts parts_;
  BatchLoss custom_loss_;
  RunConfig config_;
  const std::shared_ptr<const TextCodec> codec_;
  std::unique_ptr<GraderPool> graders_;
  std::shared_ptr<TextGenerator> policy_;  // what graders know as "policy"
  std::unique_ptr<RunFolder> folder_;
  std::unique_ptr<JournalWriter> journal_;
  std::vector<Prompt> heldout_;
  std::shared_ptr<const TokenGrammar> grammar_;  // of every completion; null: free text
  int64_t longest_prompt_ = 0;
  std::vector<Datum>
      last_datums_;  // some of the newest step's rollouts: a saved model is scored on them
  std::optional<double> export_difference_;
  std::optional<MemoryPlan> memory_plan_;
  std::unique_ptr<Orchestrator> orchestrator_;

  RunState state_;
  int64_t checkpoint_step_ = -1;  // of the newest checkpoint
  std::optional<EvalReport> before_;
  std::optional<std::pair<int64_t, EvalReport>> latest_eval_;  // with the step it was made at
  std::atomic<bool> stop_requested_{false};
  std::string stop_reason_;
  bool failed_ = false;
  bool updating_ =
      false;  // between the first change of the weights of a step and its end: no checkpoint then
  bool finished_ = false;
};

}  // namespace rft
