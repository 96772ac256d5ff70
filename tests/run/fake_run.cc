#include "tests/run/fake_run.h"

#include <sstream>

#include "rft/core/check.h"
#include "rft/core/rng.h"
#include "rft/core/status_macros.h"
#include "rft/io/json.h"

namespace rft::testing {
namespace {

constexpr const char* kConfig = R"(
name: fake
model: none
seed: 3
data: {train: train.jsonl, heldout: heldout.jsonl}
graders:
  - {type: string_check, name: exact, operation: eq, reference: "{{item.answer}}"}
rollout: {prompts_per_step: 3, group_size: 4, max_tokens: 8}
trainer: {steps: 4, learning_rate: 0.5, schedule: linear}
)";

std::string Dataset(int num_rows) {
  std::string text;
  for (int i = 0; i < num_rows; ++i) {
    text += R"({"messages": [{"role": "user", "content": "q)" + std::to_string(i) +
            R"("}], "answer": "7"})" + "\n";
  }
  return text;
}

// Right with probability 0.3 + 0.1 per update, decided by the request's own stream.
FakeEngine::Script Learner(std::shared_ptr<std::atomic<int64_t>> num_updates) {
  return [num_updates](const GenerateRequest& request, int32_t sample) {
    RngKey key = request.rng;
    key.rollout += static_cast<uint32_t>(sample);
    const double chance = 0.3 + 0.1 * static_cast<double>(num_updates->load());
    return FakeAnswer{.text = UniformAt(key, 0) < chance ? "7" : "0",
                      .delay_s = 0.002 * UniformAt(key, 1)};
  };
}

}  // namespace

FakeRun::FakeRun() {
  Write("run.yaml", kConfig);
  Write("train.jsonl", Dataset(10));
  Write("heldout.jsonl", Dataset(5));
}

RunParts FakeRun::MakeParts() {
  auto num_updates = std::make_shared<std::atomic<int64_t>>(0);
  auto fake_trainer = std::make_unique<FakeTrainer>(num_updates);
  auto fake_engine =
      std::make_unique<FakeEngine>(script ? script : Learner(num_updates), max_context);
  trainer = fake_trainer.get();
  engine = fake_engine.get();
  RunParts parts;
  parts.trainer = std::move(fake_trainer);
  parts.engine = std::move(fake_engine);
  parts.check_export = check_export;
  return parts;
}

absl::StatusOr<std::unique_ptr<Run>> FakeRun::Create(std::vector<std::string> overrides,
                                                     const std::string& resume_dir) {
  ConfigReadOptions options;
  options.overrides = std::move(overrides);
  options.check_paths = false;
  RFT_ASSIGN_OR_RETURN(RunConfig config, ReadRunConfig(Path("run.yaml"), options));
  config.data.train = JoinPath(dir_.path(), config.data.train);
  if (!config.data.heldout.empty())
    config.data.heldout = JoinPath(dir_.path(), config.data.heldout);
  if (config.run_dir.empty()) config.run_dir = Path("run");
  return Run::CreateWith(MakeParts(), std::move(config), std::make_shared<FakeCodec>(), {},
                         resume_dir);
}

void FakeRun::Write(const std::string& name, const std::string& text) const {
  const absl::Status status = WriteFile(FileSystem::Default(), Path(name), text);
  RFT_CHECK(status.ok());
}

std::string FakeRun::Read(const std::string& path) const {
  return FileSystem::Default().ReadFile(path).value_or("");
}

std::vector<std::string> FakeRun::ReadLines(const std::string& path) const {
  std::vector<std::string> lines;
  std::istringstream text(Read(path));
  for (std::string line; std::getline(text, line);) lines.push_back(line);
  return lines;
}

std::vector<std::string> FakeRun::StableMetrics(const std::string& run_dir) const {
  std::vector<std::string> stable;
  for (const std::string& line : ReadLines(run_dir + "/metrics.jsonl")) {
    absl::StatusOr<json::value> value = ParseJson(line);
    RFT_CHECK(value.ok());
    for (const char* timing :
         {"sample_s", "train_s", "seconds", "tokens_per_s_sampling", "tokens_per_s_training"})
      value->get_object().erase(timing);
    stable.push_back(ToJson(*value));
  }
  return stable;
}

}  // namespace rft::testing
