#include "rft/run/run.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "graders/text_generators.h"
#include "rft/api/engine_text_generator.h"
#include "rft/config/config_dump.h"
#include "rft/config/config_reader.h"
#include "rft/core/log.h"
#include "rft/core/status_macros.h"
#include "rft/core/text.h"
#include "rft/io/dataset.h"
#include "rft/run/grader_watch.h"
#include "rft/run/local_parts.h"
#include "rft/run/run_options.h"
#include "rollout/group_record.h"

namespace rft {
namespace {

constexpr const char* kJournal = "journal";
constexpr const char* kGraderHashes = "graders.json";

// Extra graders after the configured ones; one of the same name takes its place.
void MergeGraders(std::vector<GraderSpec> extra, std::vector<GraderSpec>* graders) {
  for (GraderSpec& spec : extra) {
    const auto same = std::find_if(graders->begin(), graders->end(),
                                   [&](const GraderSpec& g) { return g.name == spec.name; });
    if (same != graders->end()) {
      *same = std::move(spec);
    } else {
      graders->push_back(std::move(spec));
    }
  }
}

// The mistakes of both datasets, if they have some: who has to mend one would otherwise start again to see the other's.
absl::Status BothOf(const absl::Status& train, const absl::Status& heldout) {
  if (train.ok() || heldout.ok()) return train.ok() ? heldout : train;
  return absl::Status(train.code(), absl::StrCat(train.message(), "\n", heldout.message()));
}

}  // namespace

absl::StatusOr<std::unique_ptr<Run>> Run::Create(RunConfig config,
                                                 std::shared_ptr<const TextCodec> codec,
                                                 std::vector<GraderSpec> extra_graders,
                                                 const std::string& resume_dir) {
  FileSystem& fs = FileSystem::Default();
  MergeGraders(std::move(extra_graders), &config.graders);
  RFT_ASSIGN_OR_RETURN(Checked checked, Check(config, codec.get(), resume_dir, fs));
  RFT_ASSIGN_OR_RETURN(RunParts parts, CreateLocalParts(config, codec));
  return Assemble(std::move(parts), std::move(config), std::move(codec), std::move(checked),
                  resume_dir, fs);
}

absl::StatusOr<std::unique_ptr<Run>> Run::CreateWith(RunParts parts, RunConfig config,
                                                     std::shared_ptr<const TextCodec> codec,
                                                     std::vector<GraderSpec> extra_graders,
                                                     const std::string& resume_dir,
                                                     FileSystem& fs) {
  MergeGraders(std::move(extra_graders), &config.graders);
  RFT_ASSIGN_OR_RETURN(Checked checked, Check(config, codec.get(), resume_dir, fs));
  return Assemble(std::move(parts), std::move(config), std::move(codec), std::move(checked),
                  resume_dir, fs);
}

absl::StatusOr<Run::Checked> Run::Check(const RunConfig& config, const TextCodec* codec,
                                        const std::string& resume_dir, FileSystem& fs) {
  if (codec == nullptr) return absl::InvalidArgumentError("a run needs a text codec");
  RFT_RETURN_IF_ERROR(CheckRunConfig(config));
  RFT_RETURN_IF_ERROR(RunFolder::Check(config, resume_dir, fs));
  RFT_ASSIGN_OR_RETURN(std::shared_ptr<const TokenGrammar> grammar, CompileGrammar(config, *codec));
  RFT_ASSIGN_OR_RETURN(std::unique_ptr<GraderPool> graders, GraderPool::Create(config.graders));
  absl::StatusOr<Rows> train = ReadDataset(config.data.train, fs), heldout = Rows();
  if (!config.data.heldout.empty()) heldout = ReadDataset(config.data.heldout, fs);
  RFT_RETURN_IF_ERROR(BothOf(train.status(), heldout.status()));
  RFT_RETURN_IF_ERROR(BothOf(graders->CheckColumns(config.data.train, *train),
                             graders->CheckColumns(config.data.heldout, *heldout)));
  return Checked{*std::move(train), *std::move(heldout), std::move(grammar), std::move(graders)};
}

absl::StatusOr<std::unique_ptr<Run>> Run::Assemble(RunParts parts, RunConfig config,
                                                   std::shared_ptr<const TextCodec> codec,
                                                   Checked checked, const std::string& resume_dir,
                                                   FileSystem& fs) {
  if (parts.loss.kl_coef > 0.0 && parts.reference == nullptr) {
    return absl::InvalidArgumentError(
        AtKey(config, "losses.kl_coef", "above 0, but the run has no reference model"));
  }
  auto run = std::unique_ptr<Run>(new Run(std::move(parts), std::move(config), std::move(codec)));
  run->grammar_ = std::move(checked.grammar);
  run->graders_ = std::move(checked.graders);
  RFT_RETURN_IF_ERROR(run->EncodeData(checked, fs));
  run->policy_ = std::make_shared<EngineTextGenerator>(*run->parts_.engine, *run->codec_);
  SetTextGenerator(kPolicyGenerator, run->policy_);
  run->orchestrator_->SetFailurePolicy(run->graders_->policies());
  RFT_RETURN_IF_ERROR(run->PlanMemory());
  RFT_RETURN_IF_ERROR(run->OpenFolder(resume_dir, fs));
  RFT_RETURN_IF_ERROR(run->Publish());
  return run;
}

Run::Run(RunParts parts, RunConfig config, std::shared_ptr<const TextCodec> codec)
    : parts_(std::move(parts)), config_(std::move(config)), codec_(std::move(codec)) {}

Run::~Run() { ShutDownParts(); }

absl::Status Run::EncodeData(const Checked& data, FileSystem& fs) {
  RFT_ASSIGN_OR_RETURN(const PromptLimit limit,
                       MakePromptLimit(config_.data.max_prompt_tokens, parts_.engine->max_context(),
                                       config_.rollout.max_tokens));
  absl::StatusOr<std::vector<Prompt>> train = MakePrompts(data.train, config_.data.train, *codec_,
                                                          limit, fs),
                                      heldout = MakePrompts(data.heldout, config_.data.heldout,
                                                            *codec_, limit, fs);
  RFT_RETURN_IF_ERROR(BothOf(train.status(), heldout.status()));
  heldout_ = *std::move(heldout);
  const auto max_rows = static_cast<size_t>(config_.eval.max_rows);
  if (max_rows > 0 && heldout_.size() > max_rows) heldout_.resize(max_rows);
  for (const Prompt& prompt : *train)
    longest_prompt_ = std::max(longest_prompt_, static_cast<int64_t>(prompt.ids.size()));
  RFT_ASSIGN_OR_RETURN(OrchestratorOptions options, OrchestratorOptionsFor(config_));
  options.grammar = grammar_;
  RFT_ASSIGN_OR_RETURN(
      orchestrator_,
      Orchestrator::Create(*parts_.engine, *codec_, GradeWithPool(config_.rollout.group_size),
                           *std::move(train), options));
  return absl::OkStatus();
}

absl::Status Run::CheckForLossOfCaller(const RunConfig& config) {
  for (const std::string& knob : config.losses.SetKnobs())
    if (knob != "kl_coef" && knob != "kl_target")
      return absl::InvalidArgumentError(
          AtKey(config, absl::StrCat("losses.", knob),
                "is read by registered losses only, and this run's loss is a function: leave it "
                "out, and do in the function what it says (kl_coef and kl_target may be set)"));
  return absl::OkStatus();
}

absl::Status Run::SetLoss(BatchLoss loss) {
  RFT_RETURN_IF_ERROR(CheckForLossOfCaller(config_));
  custom_loss_ = std::move(loss);
  return absl::OkStatus();
}

absl::Status Run::PlanMemory() {
  if (!parts_.plan_memory) return absl::OkStatus();
  const EngineStats engine = parts_.engine->stats();
  RFT_ASSIGN_OR_RETURN(memory_plan_, parts_.plan_memory(MemoryWorkloadFor(
                                         config_, parts_.reference != nullptr, longest_prompt_,
                                         static_cast<int64_t>(heldout_.size()), engine)));
  LogInfo(MemoryPlanText(*memory_plan_));
  return absl::OkStatus();
}

GradeFunction Run::GradeWithPool(int64_t group_size) {
  return
      [this, group_size = static_cast<int32_t>(group_size)](
          std::shared_ptr<const Row> row, std::shared_ptr<const Rollout> rollout, GradesDone done) {
        graders_->GradeAsync(std::move(row), std::move(rollout), std::move(done), group_size);
      };
}

absl::Status Run::OpenFolder(const std::string& resume_dir, FileSystem& fs) {
  if (!resume_dir.empty()) {
    RFT_ASSIGN_OR_RETURN(folder_, RunFolder::Open(resume_dir, fs));
    return Restore();
  }
  RFT_ASSIGN_OR_RETURN(folder_, RunFolder::Create(config_, fs));
  RFT_RETURN_IF_ERROR(folder_->WriteAtomically(
      kGraderHashes, GraderHashesToJson(HashGraders(config_.graders, fs))));
  RFT_RETURN_IF_ERROR(folder_->AppendEvent("started"));
  return OpenJournal(/*replay=*/false);
}

absl::Status Run::Restore() {
  RFT_ASSIGN_OR_RETURN(std::optional<rft::Checkpoint> checkpoint, FindNewestCheckpoint(*folder_));
  if (checkpoint) {
    RFT_RETURN_IF_ERROR(parts_.trainer->LoadState(checkpoint->dir));
    if (parts_.move_reference)
      RFT_RETURN_IF_ERROR(parts_.reference->LoadState(JoinPath(checkpoint->dir, kReferenceFolder)));
    state_ = std::move(checkpoint->state);
    checkpoint_step_ = state_.step;
  }
  RFT_RETURN_IF_ERROR(folder_->TruncateLogs(state_.log_sizes));
  orchestrator_->set_num_draws(state_.num_draws);
  RFT_ASSIGN_OR_RETURN(const std::string recorded,
                       folder_->fs().ReadFile(folder_->Path("config.json")));
  const bool same_config = recorded == ResolvedJson(config_);
  if (!same_config) {
    LogWarning("the configuration differs from ", folder_->Path("config.json"),
               "; going on with the new one");
    RFT_RETURN_IF_ERROR(
        folder_->AppendEvent("config_changed", absl::StrCat("\"was\": ", JsonQuote(recorded))));
    RFT_RETURN_IF_ERROR(folder_->WriteAtomically("config.json", ResolvedJson(config_)));
  }
  if (state_.step > 0 && folder_->fs().Exists(folder_->Path("eval-before.json"))) {
    RFT_ASSIGN_OR_RETURN(const std::string text,
                         folder_->fs().ReadFile(folder_->Path("eval-before.json")));
    absl::StatusOr<EvalReport> before = EvalReportFromJson(text);
    if (!before.ok()) {
      return absl::DataLossError(
          absl::StrCat(folder_->Path("eval-before.json"), ": ", before.status().message()));
    }
    before_ = *std::move(before);
  }
  RFT_RETURN_IF_ERROR(folder_->AppendEvent("resumed", absl::StrCat("\"step\": ", state_.step)));
  RFT_ASSIGN_OR_RETURN(const bool same_graders, SameGraders());
  return OpenJournal(same_config && same_graders);
}

// Whether the graders are those of graders.json; says which are not, and notes the new ones.
absl::StatusOr<bool> Run::SameGraders() {
  const GraderHashes now = HashGraders(config_.graders, folder_->fs());
  const std::string path = folder_->Path(kGraderHashes);
  if (!folder_->fs().Exists(path)) return true;  // a run from before there was such a file
  RFT_ASSIGN_OR_RETURN(const std::string text, folder_->fs().ReadFile(path));
  const absl::StatusOr<GraderHashes> before = GraderHashesFromJson(text);
  if (!before.ok()) return absl::DataLossError(absl::StrCat(path, ": ", before.status().message()));
  const std::vector<std::string> changed = ChangedGraders(*before, now);
  if (changed.empty()) return true;
  LogWarning("graders have changed since the run began: ", absl::StrJoin(changed, ", "),
             "; rewards before and after may not be comparable");
  const std::string names = absl::StrJoin(
      changed, ", ",
      [](std::string* out, const std::string& name) { out->append(JsonQuote(name)); });
  RFT_RETURN_IF_ERROR(
      folder_->AppendEvent("graders_changed", absl::StrCat("\"graders\": [", names, "]")));
  RFT_RETURN_IF_ERROR(folder_->WriteAtomically(kGraderHashes, GraderHashesToJson(now)));
  return false;
}

// What an earlier process sampled after its last checkpoint is used again, unless the configuration has changed since.
absl::Status Run::OpenJournal(bool replay) {
  const std::string path = folder_->Path(kJournal);
  journal_.reset();
  if (!replay && folder_->fs().Exists(path)) RFT_RETURN_IF_ERROR(folder_->fs().Remove(path));
  JournalContents contents;
  RFT_ASSIGN_OR_RETURN(journal_, JournalWriter::Open(path, &contents, folder_->fs()));
  if (contents.damage) LogWarning(*contents.damage, "; the records before it are used");
  for (const std::string& record : contents.records) {
    absl::StatusOr<Group> group = GroupFromRecord(record);
    if (!group.ok()) return absl::DataLossError(absl::StrCat(path, ": ", group.status().message()));
    orchestrator_->AddReplay(*std::move(group));
  }
  orchestrator_->set_on_group(
      [this](const Group& group) { return journal_->Append(GroupToRecord(group)); });
  return absl::OkStatus();
}

absl::Status Run::Publish() {
  RFT_ASSIGN_OR_RETURN(std::shared_ptr<const PublishedWeights> weights,
                       parts_.trainer->SaveWeightsForSampler());
  return parts_.engine->Publish(std::move(weights));
}

absl::Status Run::AddGrader(const GraderSpec& spec, std::unique_ptr<Grader> grader) {
  RFT_RETURN_IF_ERROR(graders_->AddGrader(spec, std::move(grader)));
  orchestrator_->SetFailurePolicy(graders_->policies());
  return absl::OkStatus();
}

absl::Status Run::Save(const std::string& dir) {
  RFT_RETURN_IF_ERROR(folder_->fs().CreateDirs(dir));
  return parts_.trainer->SaveModel(dir);
}

absl::StatusOr<EvalReport> Run::Evaluate() {
  if (heldout_.empty()) {
    return absl::FailedPreconditionError(
        "data.heldout is not set: there are no rows to evaluate on");
  }
  if (graders_->names().empty()) {
    return absl::FailedPreconditionError(
        "there is no grader: add one under graders: or with AddGrader (Python: graders=[...])");
  }
  if (latest_eval_ && latest_eval_->first == state_.step) return latest_eval_->second;
  EvalOptions options = EvalOptionsFor(config_);
  options.grammar = grammar_;
  RFT_ASSIGN_OR_RETURN(EvalReport report,
                       EvaluatePrompts(*parts_.engine, *codec_, GradeWithPool(config_.eval.samples),
                                       heldout_, options));
  latest_eval_.emplace(state_.step, report);
  if (state_.step == 0) {
    before_ = report;
    RFT_RETURN_IF_ERROR(folder_->WriteAtomically("eval-before.json", EvalReportToJson(report)));
  }
  JsonWriter reward;
  reward.Double(report.reward_mean);
  RFT_RETURN_IF_ERROR(folder_->AppendEvent(
      "evaluated", absl::StrCat("\"step\": ", state_.step, ", \"reward_mean\": ", reward.Take())));
  return report;
}

void Run::ShutDownParts() {
  orchestrator_.reset();
  if (graders_ != nullptr) graders_->Shutdown();
  if (policy_ != nullptr && FindTextGenerator(kPolicyGenerator) == policy_)
    SetTextGenerator(kPolicyGenerator, nullptr);
  if (parts_.engine != nullptr) parts_.engine->Shutdown();
}

}  // namespace rft
