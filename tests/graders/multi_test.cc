#include <chrono>
#include <thread>

#include "gmock/gmock.h"
#include "graders/async_grader.h"
#include "graders/composite_grader.h"
#include "graders/function_grader.h"
#include "tests/graders/grader_testing.h"

namespace rft {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Pair;

constexpr char kParts[] = R"({
  "right": {"type": "number_match"},
  "polite": {"type": "regex_match", "pattern": "please"}
})";

TEST(MultiTest, CombinesTheScoresOfItsPartsByTheFormula) {
  const GraderSpec spec =
      Spec("multi", {{"graders", kParts}, {"calculate_output", "right * (0.8 + 0.2 * polite)"}});
  const Grade grade = GradeText(spec, "it is 42", {{"answer", "42"}});
  EXPECT_DOUBLE_EQ(ScoreOf(grade), 0.8);
  EXPECT_THAT(std::get<Score>(grade).sub_scores,
              ElementsAre(Pair("polite", 0.0), Pair("right", 1.0)));
}

TEST(MultiTest, HasNoScoreWhereAPartHasNone) {
  const GraderSpec spec =
      Spec("multi", {{"graders", kParts}, {"calculate_output", "right + polite"}});
  const Grade grade = GradeText(spec, "42", {});
  EXPECT_EQ(GradeKind(grade), std::string("error"));
  EXPECT_THAT(GradeReason(grade), HasSubstr("right: row 7 has no column \"answer\""));
}

TEST(MultiTest, IsAnErrorWhereTheFormulaHasNoFiniteValue) {
  const GraderSpec spec =
      Spec("multi", {{"graders", kParts}, {"calculate_output", "1 / (right + polite)"}});
  EXPECT_EQ(GradeReason(GradeText(spec, "1", {{"answer", "2"}})),
            "calculate_output: 1 / (right + polite) is inf with right = 0.0, polite = 0.0; a score "
            "must be finite");
}

TEST(MultiTest, ReportsAllMistakesOfItselfAndItsParts) {
  const std::string message = CreationError(Spec("multi",
                                                 {{"graders", R"({"a": {"type": "regex_match"},
                                                                  "b": {"type": "regex_mach"}, "c": 3})"},
                                                  {"calculate_output", "a +"},
                                                  {"weights", "1"}},
                                                 "m"));
  EXPECT_THAT(message, HasSubstr("graders[m.a].pattern: required"));
  EXPECT_THAT(
      message,
      HasSubstr(
          "graders[m.b].type: unknown grader type \"regex_mach\"; did you mean regex_match?"));
  EXPECT_THAT(message, HasSubstr("graders[m].graders.c: must be a grader"));
  EXPECT_THAT(message, HasSubstr("graders[m].calculate_output: column 4: expected a number"));
  EXPECT_THAT(message, HasSubstr("graders[m].weights: unknown key"));
  EXPECT_THAT(CreationError(Spec("multi", {{"graders", kParts}, {"calculate_output", "rihgt"}})),
              HasSubstr("there is no grader rihgt; did you mean right? (graders: right, polite)"));
  EXPECT_THAT(CreationError(Spec("multi", {{"graders", kParts}, {"calculate_output", "1"}})),
              HasSubstr("uses none of the graders"));
  EXPECT_THAT(CreationError(Spec("multi", {})), HasSubstr("graders: required"));
}

// An asynchronous part that never waits for a thread of ours.
class LaterGrader : public AsyncGrader {
 public:
  absl::Status Prepare() const override { return absl::OkStatus(); }
  void Start(std::shared_ptr<const GradeJob> job, std::function<void(Grade)> done) const override {
    std::thread([job, done = std::move(done)] {
      done(Score{job->completion.size() * 1.0});
    }).detach();
  }
  void Shutdown() const override {}
};

TEST(CompositeGraderTest, WaitsForAsynchronousPartsAndKeepsTheOrderOfParts) {
  std::vector<GraderPart> parts;
  parts.push_back({"later", std::make_shared<LaterGrader>(), 5.0});
  parts.push_back({"now", MakeFunctionGrader([](const GradeInput&) { return 0.5; }), 5.0});
  const auto grader =
      MakeCompositeGrader(std::move(parts), [](std::vector<NamedGrade> grades) -> Grade {
        EXPECT_EQ(grades[0].grader, "later");
        auto scores = CollectPartScores(grades);
        Score score = std::get<PartScores>(scores).score;
        score.value = score.sub_scores["later"] + score.sub_scores["now"];
        return score;
      });
  ASSERT_NE(dynamic_cast<const AsyncGrader*>(grader.get()), nullptr);
  const Row row = RowWith({});
  for (int i = 0; i < 20; ++i)
    EXPECT_EQ(ScoreOf(grader->Run(GradeInput{row, "abc", {}, FinishReason::kStop})), 3.5);
}

TEST(CompositeGraderTest, GivesEachNativePartItsDeadline) {
  std::vector<GraderPart> parts;
  parts.push_back({"later", std::make_shared<LaterGrader>(), 5.0});
  parts.push_back({"slow", MakeFunctionGrader([](const GradeInput&) {
                     std::this_thread::sleep_for(std::chrono::milliseconds(300));
                     return 1.0;
                   }),
                   0.05});
  const auto grader =
      MakeCompositeGrader(std::move(parts), [](std::vector<NamedGrade> grades) -> Grade {
        auto scores = CollectPartScores(grades);
        return std::holds_alternative<Grade>(scores) ? std::get<Grade>(scores) : Grade(Score{1.0});
      });
  const Row row = RowWith({});
  EXPECT_EQ(GradeKind(grader->Run(GradeInput{row, "abc", {}, FinishReason::kStop})),
            std::string("timeout"));
}

}  // namespace
}  // namespace rft
