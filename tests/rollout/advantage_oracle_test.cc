// Every advantage against plain numpy: tests/oracles/make_advantage_golden.py.
#include <cmath>
#include <fstream>
#include <iterator>
#include <set>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <boost/json.hpp>

#include "rollout/advantage.h"
#include "rollout/datums.h"
#include "rollout/rollout_advantages.h"
#include "tests/testing/loss_golden.h"

namespace rft {
namespace {

namespace json = boost::json;
using testing::Doubles;

json::array Cases(const char* family) {
  std::ifstream file(RFT_TEST_DATA_DIR "/oracles/advantage_golden.json");
  const std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  const json::value document = json::parse(text);
  json::array cases;
  for (const json::value& one : document.at("cases").as_array()) {
    if (one.at("family") == family) cases.push_back(one);
  }
  return cases;
}

AdvantageOptions OptionsOf(const json::value& one) {
  AdvantageOptions options;
  options.kind = *AdvantageKindFromName(one.at("kind").as_string().c_str());
  const json::object& given = one.at("options").as_object();
  const auto read = [&](const char* name, auto* out) {
    if (const json::value* value = given.if_contains(name))
      *out = value->to_number<std::remove_pointer_t<decltype(out)>>();
  };
  read("eps", &options.eps), read("clip", &options.clip), read("k", &options.k);
  read("difficulty_weight", &options.difficulty_weight);
  read("turn_discount", &options.turn_discount);
  const json::value* level = given.if_contains("level");
  if (level != nullptr && *level == "turn") options.level = AdvantageLevel::kTurn;
  return options;
}

void ExpectEqual(const std::vector<double>& actual, const std::vector<double>& expected) {
  ASSERT_EQ(actual.size(), expected.size());
  for (size_t i = 0; i < actual.size(); ++i) EXPECT_NEAR(actual[i], expected[i], 1e-9);
}

TEST(AdvantageOracleTest, RolloutsGetWhatNumpyComputesForEveryKind) {
  std::set<AdvantageKind> seen;
  for (const json::value& one : Cases("rollout")) {
    SCOPED_TRACE(json::serialize(one));
    std::vector<RewardGroup> groups;
    for (const json::value& group : one.at("groups").as_array()) {
      RewardGroup& made = groups.emplace_back();
      for (const json::value& r : group.at(0).as_array())
        made.rewards.push_back(r.is_null() ? std::nullopt : std::optional(r.to_number<double>()));
      made.lengths = Doubles(group.at(1));
    }
    const auto actual = ComputeAdvantages(OptionsOf(one), groups);
    for (size_t g = 0; g < actual.size(); ++g)
      ExpectEqual(actual[g], Doubles(one.at("expected").at(g)));
    seen.insert(OptionsOf(one).kind);
  }
  EXPECT_EQ(seen.size(), 11u);
}

TEST(AdvantageOracleTest, TurnsGetWhatNumpyComputesForEveryKind) {
  std::set<AdvantageKind> seen;
  for (const json::value& one : Cases("turn")) {
    SCOPED_TRACE(json::serialize(one));
    std::vector<TurnRewardGroup> groups;
    for (const json::value& group : one.at("groups").as_array()) {
      TurnRewardGroup& made = groups.emplace_back();
      for (const json::value& turns : group.at(0).as_array())
        made.rewards.push_back(turns.is_null() ? std::vector<double>{} : Doubles(turns));
      for (const json::value& lengths : group.at(1).as_array())
        made.lengths.push_back(Doubles(lengths));
    }
    const auto actual = ComputeTurnAdvantages(OptionsOf(one), groups);
    for (size_t g = 0; g < actual.size(); ++g)
      for (size_t i = 0; i < actual[g].size(); ++i)
        ExpectEqual(actual[g][i], Doubles(one.at("expected").at(g).at(i)));
    seen.insert(OptionsOf(one).kind);
  }
  EXPECT_EQ(seen.size(), 11u);
}

// A prompt of one token; turns of the lengths given, a tool's answer of two tokens between them.
Rollout RolloutOf(const std::vector<double>& lengths, const json::array& grades) {
  Rollout rollout;
  rollout.segments.push_back({.kind = SegmentKind::kPrompt, .ids = {1}});
  for (double length : lengths) {
    if (rollout.segments.size() > 1)
      rollout.segments.push_back({.kind = SegmentKind::kTool, .ids = {2, 2}});
    const auto n = static_cast<size_t>(length);
    rollout.segments.push_back({.kind = SegmentKind::kModel,
                                .ids = std::vector<TokenId>(n, 3),
                                .loss_mask = std::vector<uint8_t>(n, 1)});
  }
  rollout.scored = true;
  for (const json::value& grade : grades) {
    Score score;
    score.value = grade.at(1).to_number<double>();
    if (!grade.at(2).is_null()) score.turn_scores = Doubles(grade.at(2));
    if (!grade.at(3).is_null()) score.token_advantages = Doubles(grade.at(3));
    const double weight = grade.at(0).to_number<double>();
    rollout.grades.push_back({"grader", weight, score});
    rollout.reward += weight * score.value;
  }
  return rollout;
}

TEST(AdvantageOracleTest, TokensGetTheirTurnsAdvantageAndWhatAGraderGaveThem) {
  const json::array cases = Cases("tokens");
  ASSERT_EQ(cases.size(), 8u);
  for (const json::value& one : cases) {
    SCOPED_TRACE(json::serialize(one));
    const json::value& golden = one.at("group");
    Group group;
    group.prompt = {1};
    for (size_t i = 0; i < golden.at("lengths").as_array().size(); ++i) {
      group.rollouts.push_back(
          RolloutOf(Doubles(golden.at("lengths").at(i)), golden.at("grades").at(i).as_array()));
      ExpectEqual(TurnRewards(group.rollouts.back()),
                  Doubles(one.at("expected").at("turn_rewards").at(i)));
    }
    AssignAdvantages(OptionsOf(one), absl::MakeSpan(&group, 1));
    const DatumBatch batch = MakeDatums(absl::MakeConstSpan(&group, 1), {});
    for (size_t i = 0; i < batch.datums.size(); ++i) {
      const std::vector<double> expected = Doubles(one.at("expected").at("advantages").at(i));
      size_t next = 0;
      double sum = 0.0;
      for (size_t t = 0; t < batch.datums[i].ids.size(); ++t) {
        const bool trained = batch.datums[i].ids[t] == 3;
        EXPECT_NEAR(batch.datums[i].advantages[t], trained ? expected.at(next) : 0.0, 1e-6);
        if (trained) sum += expected.at(next++);
      }
      EXPECT_EQ(next, expected.size());
      EXPECT_NEAR(group.rollouts[i].advantage, sum / static_cast<double>(next), 1e-9);
    }
  }
}

}  // namespace
}  // namespace rft
