#include "rft/config/config_reader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "rft/config/config_dump.h"
#include "tests/testing/temp_dir.h"

namespace rft {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr char kRequired[] = "model: m\ndata: {train: t.jsonl}\n";

absl::StatusOr<RunConfig> Parse(const std::string& text, std::vector<std::string> overrides = {}) {
  ConfigReadOptions options;
  options.overrides = std::move(overrides);
  options.check_paths = false;
  return ParseRunConfig(text, "run.yaml", "/base", options);
}

std::string ErrorOf(const std::string& text, std::vector<std::string> overrides = {}) {
  return std::string(Parse(text, std::move(overrides)).status().message());
}

TEST(ConfigReaderTest, FillsInDefaults) {
  const RunConfig config = *Parse(kRequired);
  EXPECT_EQ(config.model, "m");
  EXPECT_EQ(config.trainer.steps, 40);
  EXPECT_EQ(config.trainer.learning_rate, 1e-5);
  EXPECT_EQ(config.losses.clip_high, std::nullopt);
  EXPECT_EQ(config.base_dir, "/base");
  EXPECT_EQ(config.eval_temperature(), 1.0);
}

TEST(ConfigReaderTest, ReadsEveryKindOfValue) {
  const RunConfig config = *Parse(R"(
name: 5
model: m
data: {train: t.jsonl, shuffle: no}
rollout:
  temperature: +0.5
  stop_strings: ["</answer>", 7]
losses: {name: dapo, clip_high: 0.28, kl_estimator: k1, correction: {level: token, cap: 2}}
trainer: {learning_rate: 3e-6, dtype: fp32}
eval: {temperature: 0}
)");
  EXPECT_EQ(config.name, "5");
  EXPECT_FALSE(config.data.shuffle);
  EXPECT_EQ(config.rollout.temperature, 0.5);
  EXPECT_THAT(config.rollout.stop_strings, ElementsAre("</answer>", "7"));
  EXPECT_EQ(config.losses.clip_high, 0.28);
  EXPECT_EQ(config.losses.correction.cap, 2.0);
  EXPECT_EQ(config.trainer.learning_rate, 3e-6);
  EXPECT_EQ(config.eval_temperature(), 0.0);
}

TEST(ConfigReaderTest, KeepsGraderParametersAsTextWithTheirLines) {
  const RunConfig config = *Parse(std::string(kRequired) +
                                  "graders:\n"
                                  "- type: regex_match\n"
                                  "  name: format\n"
                                  "  weight: 0.5\n"
                                  "  pattern: '<answer>\\d+</answer>'\n"
                                  "  limits: {low: 1, words: [a, '2', true]}\n"
                                  "- {type: number_match, deadline_s: 3, column: answer}\n");
  ASSERT_EQ(config.graders.size(), 2u);
  const GraderSpec& format = config.graders[0];
  EXPECT_EQ(format.name, "format");
  EXPECT_EQ(format.weight, 0.5);
  EXPECT_EQ(format.params.at("pattern"), "<answer>\\d+</answer>");
  EXPECT_EQ(format.params.at("limits"), R"({"low": 1, "words": ["a", "2", true]})");
  EXPECT_EQ(format.param_locations.at("pattern"), "run.yaml:7");
  EXPECT_EQ(format.base_dir, "/base");
  EXPECT_EQ(config.graders[1].name, "number_match");
  EXPECT_EQ(config.graders[1].deadline_s, 3.0);
}

struct MistakeCase {
  std::string text;     // after the required keys, so its first line is line 3
  std::string message;  // part of the error
};

class ConfigMistakeTest : public ::testing::TestWithParam<MistakeCase> {};

TEST_P(ConfigMistakeTest, IsReportedWithItsPlace) {
  EXPECT_THAT(ErrorOf(kRequired + GetParam().text), HasSubstr(GetParam().message));
}

INSTANTIATE_TEST_SUITE_P(
    Table, ConfigMistakeTest,
    ::testing::Values(
        MistakeCase{"losses:\n  clip_hihg: 1\n",
                    "run.yaml:4: losses.clip_hihg: unknown key; did you mean losses.clip_high?"},
        MistakeCase{
            "losses: {correction: {capp: 1}}\n",
            "run.yaml:3: losses.correction.capp: unknown key; did you mean losses.correction.cap?"},
        MistakeCase{"device: cuda\n",
                    "run.yaml:3: device: unknown key; did you mean trainer.device?"},
        MistakeCase{"trainr: {}\n", "run.yaml:3: trainr: unknown key; did you mean trainer?"},
        MistakeCase{"learning_rate: 1\n",
                    "run.yaml:3: learning_rate: unknown key; did you mean trainer.learning_rate?"},
        MistakeCase{
            "stop: {zzzzzzzzzzzzzzzzzz: 1}\n",
            "run.yaml:3: stop.zzzzzzzzzzzzzzzzzz: unknown key; known here: no_signal_steps"},
        MistakeCase{"trainer:\n  steps: many\n",
                    "run.yaml:4: trainer.steps: expected a whole number, got \"many\""},
        MistakeCase{"trainer: {steps: 1.5}\n",
                    "run.yaml:3: trainer.steps: expected a whole number, got \"1.5\""},
        MistakeCase{"trainer: {steps: '40'}\n",
                    "trainer.steps: expected a whole number, got the text \"40\""},
        MistakeCase{"trainer: {steps: [1]}\n",
                    "trainer.steps: expected a whole number, got a list"},
        MistakeCase{"trainer: {steps: 99999999999999999999}\n",
                    "trainer.steps: expected a whole number"},
        MistakeCase{"trainer: {learning_rate: .nan}\n",
                    "trainer.learning_rate: expected a number, got \".nan\""},
        MistakeCase{"trainer: {steps: 0}\n",
                    "run.yaml:3: trainer.steps: 0 is out of range; must be >= 1"},
        MistakeCase{"rollout: {top_p: 0}\n",
                    "rollout.top_p: 0 is out of range; must be > 0 and <= 1"},
        MistakeCase{"rollout: {top_p: 1.5}\n",
                    "rollout.top_p: 1.5 is out of range; must be > 0 and <= 1"},
        MistakeCase{"losses: {dual_clip: -1}\n",
                    "losses.dual_clip: -1 is out of range; must be >= 0"},
        MistakeCase{"trainer: {dtype: fp16}\n",
                    "trainer.dtype: \"fp16\" is not one of bf16, fp32; did you mean bf16?"},
        MistakeCase{"losses: {aggregation: mean}\n",
                    "losses.aggregation: \"mean\" is not one of token-sum, token-mean"},
        MistakeCase{"filter: {zero_variance: maybe}\n",
                    "filter.zero_variance: expected true or false, got \"maybe\""},
        MistakeCase{"rollout: {stop_strings: '</a>'}\n",
                    "rollout.stop_strings: expected a list of texts"},
        MistakeCase{"rollout: {stop_strings: [a, [b]]}\n",
                    "rollout.stop_strings[1]: expected text, got a list"},
        MistakeCase{"name: [a]\n", "run.yaml:3: name: expected text, got a list"},
        MistakeCase{"trainer: 3\n",
                    "run.yaml:3: trainer: expected a section of 'key: value' lines"},
        MistakeCase{"graders: {type: x}\n", "run.yaml:3: graders: expected a list"},
        MistakeCase{"graders:\n- x\n",
                    "run.yaml:4: graders[0]: expected 'key: value' lines with at least a type"},
        MistakeCase{"graders:\n- weight: 1\n", "graders[0].type: missing"},
        MistakeCase{"graders:\n- type: a\n  weight: x\n",
                    "run.yaml:5: graders[a].weight: expected a number"},
        MistakeCase{"graders:\n- {type: a, deadline_s: 0}\n",
                    "graders[a].deadline_s: 0 is out of range; must be > 0"},
        MistakeCase{"graders:\n- type: a\n- type: a\n",
                    "run.yaml:5: graders[a]: a second grader of this name"},
        MistakeCase{"rollout: {min_tokens: 65}\n",
                    "run.yaml:3: rollout.min_tokens: 65 is more than rollout.max_tokens (64)"},
        MistakeCase{"losses: {correction: {floor: 3, cap: 2}}\n",
                    "losses.correction.floor: is more than"},
        MistakeCase{"name: a\nname: b\n", "run.yaml:4: name: given twice"},
        MistakeCase{"name: [\n", "not valid YAML"},
        MistakeCase{"? [a]\n: 1\n", "a key must be text"},
        MistakeCase{"---\nname: b\n", "holds 2 YAML documents"},
        MistakeCase{"name: \"\xFF\"\n", "run.yaml:3: not UTF-8 text"},
        MistakeCase{"name: &a [*a]\n", "run.yaml:3: too many levels or values"}));

TEST(ConfigReaderTest, ReportsAllMistakesInTheOrderOfTheFile) {
  EXPECT_EQ(ErrorOf("trainer:\n  steps: x\n  stepz: 1\nname: a\ndata: {}\n"),
            "run.yaml:2: trainer.steps: expected a whole number, got \"x\"\n"
            "run.yaml:3: trainer.stepz: unknown key; did you mean trainer.steps?\n"
            "run.yaml: model: missing; Hugging Face folder (config.json, *.safetensors, tokenizer "
            "files).\n"
            "run.yaml: data.train: missing; Training rows: JSONL in OpenAI chat format.");
}

TEST(ConfigReaderTest, SaysWhatIsMissingInAnEmptyFileAndInAList) {
  EXPECT_THAT(ErrorOf(""), HasSubstr("run.yaml: model: missing"));
  EXPECT_THAT(ErrorOf("[1]"),
              HasSubstr("run.yaml:1: the configuration: expected 'key: value' lines"));
}

TEST(ConfigOverrideTest, ReplacesValuesAndCreatesSections) {
  const RunConfig config =
      *Parse(std::string(kRequired) + "trainer: {steps: 3}\ngraders: [{type: a}]\n",
             {"trainer.steps=7", "losses.name=dapo", "rollout.stop_strings=[\"x\"]",
              "graders.0.weight=2", "losses.correction.level=token"});
  EXPECT_EQ(config.trainer.steps, 7);
  EXPECT_EQ(config.losses.name, "dapo");
  EXPECT_THAT(config.rollout.stop_strings, ElementsAre("x"));
  EXPECT_EQ(config.graders[0].weight, 2.0);
  EXPECT_EQ(config.losses.correction.level, "token");
  EXPECT_EQ(config.locations.at("trainer.steps"), "--set");
}

TEST(ConfigOverrideTest, AnEmptyValueMeansTheDefault) {
  EXPECT_EQ(
      Parse(std::string(kRequired) + "trainer: {steps: 3}\n", {"trainer.steps="})->trainer.steps,
      40);
}

TEST(ConfigOverrideTest, NamesItsMistakes) {
  EXPECT_EQ(ErrorOf(kRequired, {"trainer.stepz=1"}),
            "--set: trainer.stepz: unknown key; did you mean trainer.steps?");
  EXPECT_THAT(ErrorOf(kRequired, {"trainer.steps"}), HasSubstr("expected key=value"));
  EXPECT_THAT(ErrorOf(kRequired, {"model.x=1"}),
              HasSubstr("--set model.x: model has no part 'x' (run.yaml:1)"));
  EXPECT_THAT(ErrorOf(kRequired, {"trainer..x=1"}), HasSubstr("has no part ''"));
  EXPECT_THAT(ErrorOf(kRequired, {"trainer.steps=["}),
              HasSubstr("--set trainer.steps: not valid YAML"));
}

TEST(ConfigOverrideTest, MistakesNameWhereTheOverridesCameFrom) {
  for (const auto& [override_text, message] : std::vector<std::pair<std::string, std::string>>{
           {"trainer.stepz=1", "overrides: trainer.stepz: unknown key"},
           {"trainer.steps", "overrides trainer.steps: expected key=value"},
           {"model.x=1", "overrides model.x: model has no part 'x'"},
           {"trainer.steps=[", "overrides trainer.steps: not valid YAML"},
           {"rollout.min_tokens=65", "overrides: rollout.min_tokens: 65 is more than"}}) {
    ConfigReadOptions options;
    options.overrides = {override_text};
    options.overrides_from = "overrides";
    options.check_paths = false;
    EXPECT_THAT(
        std::string(ParseRunConfig(kRequired, "run.yaml", "/base", options).status().message()),
        HasSubstr(message));
  }
}

std::vector<std::string> GraderNames(const std::string& graders) {
  const absl::StatusOr<RunConfig> config = Parse(std::string(kRequired) + "graders:\n" + graders);
  if (!config.ok()) return {std::string(config.status().message())};
  std::vector<std::string> names;
  for (const GraderSpec& spec : config->graders) names.push_back(spec.name);
  return names;
}

TEST(ConfigGraderNameTest, IsTheFunctionsUnlessItIsGiven) {
  EXPECT_THAT(GraderNames("- {type: python, function: 'my/rewards.py:exact'}\n"
                          "- {type: python, function: 'trl.rewards:think'}\n"
                          "- {type: python, function: 'other.py:x', name: mine}\n"
                          "- {type: regex_match, pattern: a}\n"),
              ElementsAre("exact", "think", "mine", "regex_match"));
}

TEST(ConfigGraderNameTest, TellsFunctionsOfOneNameApartByTheirFiles) {
  EXPECT_THAT(GraderNames("- {type: python, function: 'a/rewards.py:score'}\n"
                          "- {type: python, function: 'package.other:score'}\n"
                          "- {type: python, function: 'third.py:fast'}\n"),
              ElementsAre("rewards.score", "other.score", "fast"));
  EXPECT_THAT(GraderNames("- {type: python, function: 'a.py:f', name: f}\n"
                          "- {type: python, function: 'b.py:f'}\n"),
              ElementsAre("f", "b.f"));
}

TEST(ConfigGraderNameTest, TheSameFunctionTwiceNeedsNames) {
  EXPECT_THAT(GraderNames("- {type: python, function: 'a.py:f'}\n"
                          "- {type: python, function: 'a.py:f'}\n"),
              ElementsAre("run.yaml:5: graders[f]: a second grader of this name; give each its "
                          "own 'name'"));
}

TEST(ConfigGraderNameTest, AFunctionWithoutANameAfterTheColonIsCalledByItsType) {
  EXPECT_THAT(GraderNames("- {type: python, function: 'a.py:'}\n"), ElementsAre("python"));
}

TEST(ConfigChoicesTest, ChecksNamesThatOnlyOthersKnow) {
  ConfigReadOptions options;
  options.check_paths = false;
  options.choices = {{"losses.name", {"grpo", "dapo"}}, {"graders.type", {"regex_match"}}};
  const std::string text =
      std::string(kRequired) + "losses: {name: gppo}\ngraders:\n- type: regexmatch\n";
  const std::string error(ParseRunConfig(text, "run.yaml", "", options).status().message());
  EXPECT_THAT(
      error,
      HasSubstr("run.yaml:3: losses.name: \"gppo\" is not one of grpo, dapo; did you mean grpo?"));
  EXPECT_THAT(
      error,
      HasSubstr("run.yaml:5: graders[regexmatch].type: \"regexmatch\" is not one of regex_match"));
}

class ConfigPathTest : public ::testing::Test {
 protected:
  ConfigPathTest() {
    FileSystem& fs = FileSystem::Default();
    RFT_CHECK(fs.CreateDirs(dir_ / "model").ok() && WriteFile(fs, dir_ / "train.jsonl", "").ok());
  }
  absl::StatusOr<RunConfig> Read(const std::string& text) {
    RFT_CHECK(WriteFile(FileSystem::Default(), dir_ / "run.yaml", text).ok());
    return ReadRunConfig(dir_ / "run.yaml");
  }
  rft::testing::TempDir dir_;
};

TEST_F(ConfigPathTest, StartsAtTheFolderOfTheFile) {
  const RunConfig config = *Read("model: model/\ndata: {train: ./train.jsonl}");
  EXPECT_EQ(config.model, dir_ / "model");
  EXPECT_EQ(config.data.train, dir_ / "train.jsonl");
}

TEST_F(ConfigPathTest, FallsBackToTheWorkingDirectory) {
  const std::string here = std::filesystem::relative(dir_ / "model").string();
  EXPECT_EQ(Read("model: " + here + "\ndata: {train: train.jsonl}")->model, dir_ / "model");
}

TEST_F(ConfigPathTest, ReportsAllMissingFilesWithTheirLines) {
  const std::string error(
      Read("model: none\ndata:\n  train: t.jsonl\n  heldout: h.jsonl\n").status().message());
  EXPECT_THAT(error, HasSubstr("run.yaml:1: model: no such file or folder: " + dir_ / "none"));
  EXPECT_THAT(error, HasSubstr("run.yaml:3: data.train: no such file or folder: "));
  EXPECT_THAT(error, HasSubstr("run.yaml:4: data.heldout: no such file or folder: "));
}

TEST_F(ConfigPathTest, NamesAFileThatIsNotThere) {
  EXPECT_EQ(ReadRunConfig(dir_ / "none.yaml").status().code(), absl::StatusCode::kNotFound);
}

TEST_F(ConfigPathTest, AResolvedConfigurationReadsBackEqualFromAnotherFolder) {
  const RunConfig config = *Read(
      "model: model\ndata: {train: train.jsonl}\nlosses: {name: dapo, clip_high: 0.28}\nrollout: "
      "{stop_strings: [\"a\\nb\"]}\n"
      "graders:\n- {type: regex_match, pattern: '\\d \"x\"', words: [1, two]}\ntrainer: "
      "{learning_rate: 2.5e-6}\n");
  const std::string resolved = ResolvedJson(config);
  ASSERT_TRUE(FileSystem::Default().CreateDirs(dir_ / "runs/1").ok());
  ASSERT_TRUE(WriteFile(FileSystem::Default(), dir_ / "runs/1/config.json", resolved).ok());
  const absl::StatusOr<RunConfig> again = ReadRunConfig(dir_ / "runs/1/config.json");
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(ResolvedJson(*again), resolved);
  EXPECT_EQ(again->graders[0].params, config.graders[0].params);
  EXPECT_EQ(again->graders[0].base_dir, dir_.path());
}

TEST(AtKeyTest, SaysWhereAKeyWasWritten) {
  const RunConfig config = *Parse(std::string(kRequired) + "losses:\n  name: x\n");
  EXPECT_EQ(AtKey(config, "losses.name", "not known"), "run.yaml:4: losses.name: not known");
  EXPECT_EQ(AtKey(config, "engine.name", "not known"), "engine.name: not known");
}

}  // namespace
}  // namespace rft
