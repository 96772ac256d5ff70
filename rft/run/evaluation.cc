#include "rft/run/evaluation.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <utility>

#include "rft/core/json_writer.h"
#include "rft/core/rng.h"
#include "rft/core/status_macros.h"
#include "rft/io/json.h"
#include "rollout/step_metrics.h"

namespace rft {
namespace {

constexpr uint64_t kEvalSalt = 0x4556'414c;  // "EVAL"
constexpr int kMaxOpenSamples = 4096;        // an engine's queue is limited
constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

GroupTask MakeTask(const Prompt& prompt, const EvalOptions& options) {
  GroupTask task;
  task.id = prompt.row->index;
  task.row = prompt.row;
  task.prompt = prompt.ids;
  task.num_samples = options.num_samples;
  task.sampling = options.sampling;
  task.grammar = options.grammar;
  task.rng = {BitsAt(options.seed, kEvalSalt, 0), 0, static_cast<uint64_t>(prompt.row->index), 0};
  return task;
}

double RowReward(const Group& group) {
  double sum = 0.0;
  int64_t n = 0;
  for (const Rollout& rollout : group.rollouts) {
    if (!rollout.scored) continue;
    sum += rollout.reward;
    ++n;
  }
  return n > 0 ? sum / static_cast<double>(n) : kNaN;
}

EvalSample MakeSample(const Group& group) {
  const Rollout& rollout = group.rollouts.front();
  EvalSample sample;
  sample.row = group.row->index;
  if (!group.row->messages.empty()) sample.prompt = group.row->messages.back().content;
  sample.completion = rollout.completion_text;
  sample.reward = rollout.scored ? rollout.reward : kNaN;
  for (const NamedGrade& named : rollout.grades) {
    if (const Score* score = std::get_if<Score>(&named.grade))
      sample.grades[named.grader] = score->value;
  }
  return sample;
}

void WriteNumbers(const std::map<std::string, double>& numbers, JsonWriter& w) {
  w.BeginObject();
  for (const auto& [name, value] : numbers) w.Key(name), w.Double(value);
  w.EndObject();
}

}  // namespace

absl::StatusOr<EvalReport> EvaluatePrompts(InferenceEngine& engine, const TextCodec& codec,
                                           const GradeFunction& grade,
                                           const std::vector<Prompt>& prompts,
                                           const EvalOptions& options) {
  GroupRunner runner(engine, codec, grade, options.limits);
  const auto max_open = static_cast<size_t>(std::max(1, kMaxOpenSamples / options.num_samples));
  std::map<int64_t, Group> groups;  // by row
  size_t next = 0;
  while (next < prompts.size() || runner.num_open() > 0) {
    if (next < prompts.size() && runner.num_open() < max_open) {
      RFT_RETURN_IF_ERROR(runner.Start(MakeTask(prompts[next++], options)));
      continue;
    }
    RFT_ASSIGN_OR_RETURN(Group group, runner.WaitFinished());
    const int64_t id = group.id;
    groups[id] = std::move(group);
  }
  EvalReport report;
  std::vector<const Rollout*> rollouts;
  double sum = 0.0;
  int64_t num_judged = 0;
  for (const auto& [row, group] : groups) {
    for (const Rollout& rollout : group.rollouts) rollouts.push_back(&rollout);
    report.rewards.push_back(RowReward(group));
    report.samples.push_back(MakeSample(group));
    if (std::isnan(report.rewards.back())) continue;
    sum += report.rewards.back();
    ++num_judged;
  }
  report.num_rows = static_cast<int64_t>(groups.size());
  report.reward_mean = num_judged > 0 ? sum / static_cast<double>(num_judged) : kNaN;
  report.metrics = RolloutMetrics(rollouts);
  return report;
}

std::string EvalReportToJson(const EvalReport& report) {
  JsonWriter w(2);
  w.BeginObject();
  w.Key("reward_mean"), w.Double(report.reward_mean);
  w.Key("num_rows"), w.Int(report.num_rows);
  w.Key("metrics"), WriteNumbers(report.metrics, w);
  w.Key("rewards");
  w.BeginArray();
  for (double reward : report.rewards) w.Double(reward);
  w.EndArray();
  w.Key("samples");
  w.BeginArray();
  for (const EvalSample& sample : report.samples) {
    w.BeginObject();
    w.Key("row"), w.Int(sample.row);
    w.Key("prompt"), w.String(sample.prompt);
    w.Key("completion"), w.String(sample.completion);
    w.Key("reward"), w.Double(sample.reward);
    w.Key("grades"), WriteNumbers(sample.grades, w);
    w.EndObject();
  }
  w.EndArray();
  w.EndObject();
  return w.Take() + "\n";
}

absl::StatusOr<EvalReport> EvalReportFromJson(std::string_view text) {
  RFT_ASSIGN_OR_RETURN(const json::value value, ParseJson(text));
  if (!value.is_object()) return absl::InvalidArgumentError("an evaluation must be a JSON object");
  const auto number = [](const json::value& v) -> absl::StatusOr<double> {
    if (v.is_null()) return kNaN;
    return ToDouble(v);
  };
  EvalReport report;
  RFT_ASSIGN_OR_RETURN(report.num_rows, GetInt(value.get_object(), "num_rows"));
  const json::value* mean = value.get_object().if_contains("reward_mean");
  if (mean == nullptr) return absl::InvalidArgumentError("'reward_mean' is missing");
  RFT_ASSIGN_OR_RETURN(report.reward_mean, number(*mean));
  RFT_ASSIGN_OR_RETURN(const json::array* rewards, GetArray(value.get_object(), "rewards"));
  for (const json::value& reward : *rewards) {
    RFT_ASSIGN_OR_RETURN(const double x, number(reward));
    report.rewards.push_back(x);
  }
  return report;
}

}  // namespace rft
