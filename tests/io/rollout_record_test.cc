#include "rft/io/rollout_record.h"

#include <cmath>
#include <limits>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_replace.h"
#include "rft/core/rng.h"

namespace rft {
namespace {

using ::testing::HasSubstr;

Rollout Sample() {
  Rollout r;
  r.step = 3;
  r.group = int64_t{1} << 60;
  r.index = 7;
  r.completion_text = "<answer>5</answer>\n\"\xC3\xA9\"";
  r.finish_reason = FinishReason::kLength;
  r.scored = true;
  r.reward = 0.1 + 0.2;
  r.advantage = -1.0 / 3.0;
  r.grades = {{"format", 0.5, Score{1.0 / 3.0, {{"part", 0.7}}, "why"}},
              {"a", 1.0, Abstain{"no opinion"}},
              {"e", 1.0, GradeError{"raised"}},
              {"t", 1.0, Timeout{2.5}},
              {"k", 1.0, Killed{"memory"}}};
  std::get<Score>(r.grades[0].grade).turn_scores = {0.1, 0.2 + 1.0 / 30.0};
  std::get<Score>(r.grades[0].grade).token_advantages = {0.0, -1.0 / 3.0};
  r.token_advantages = {0.25f, -1.0f / 3.0f};
  Segment prompt;
  prompt.ids = {1, 2, 3};
  Segment model;
  model.kind = SegmentKind::kModel;
  for (uint64_t i = 0; i < 200; ++i) {
    model.ids.push_back(static_cast<TokenId>(i));
    model.loss_mask.push_back(i % 2);
    model.logprobs.push_back(static_cast<float>(-20.0 * UniformAt({}, static_cast<uint32_t>(i))));
    model.sampling_logprobs.push_back(model.logprobs.back() * 0.7f);
    model.versions.push_back(static_cast<int64_t>(i) / 50);
  }
  model.logprobs[5] = -std::numeric_limits<float>::infinity();
  model.logprobs[6] = std::numeric_limits<float>::denorm_min();
  model.routes = {0, 15, 255};
  r.segments = {prompt, model};
  return r;
}

TEST(RolloutRecordTest, ComesBackWithTheSameBits) {
  const Rollout r = Sample();
  const std::string text = RolloutToJson(r);
  const absl::StatusOr<Rollout> back = RolloutFromJson(text);
  ASSERT_TRUE(back.ok()) << back.status();
  EXPECT_EQ(back->step, r.step);
  EXPECT_EQ(back->group, r.group);
  EXPECT_EQ(back->index, r.index);
  EXPECT_EQ(back->completion_text, r.completion_text);
  EXPECT_EQ(back->finish_reason, r.finish_reason);
  EXPECT_EQ(back->scored, r.scored);
  EXPECT_EQ(back->reward, r.reward);
  EXPECT_EQ(back->advantage, r.advantage);
  EXPECT_EQ(back->token_advantages, r.token_advantages);
  ASSERT_EQ(back->segments.size(), 2u);
  for (size_t s = 0; s < 2; ++s) {
    EXPECT_EQ(back->segments[s].kind, r.segments[s].kind);
    EXPECT_EQ(back->segments[s].ids, r.segments[s].ids);
    EXPECT_EQ(back->segments[s].loss_mask, r.segments[s].loss_mask);
    EXPECT_EQ(back->segments[s].logprobs, r.segments[s].logprobs);
    EXPECT_EQ(back->segments[s].sampling_logprobs, r.segments[s].sampling_logprobs);
    EXPECT_EQ(back->segments[s].versions, r.segments[s].versions);
    EXPECT_EQ(back->segments[s].routes, r.segments[s].routes);
  }
  EXPECT_EQ(RolloutToJson(*back), text);
}

TEST(RolloutRecordTest, KeepsEveryKindOfGrade) {
  const std::vector<NamedGrade> grades = RolloutFromJson(RolloutToJson(Sample()))->grades;
  ASSERT_EQ(grades.size(), 5u);
  EXPECT_EQ(grades[0].weight, 0.5);
  EXPECT_EQ(std::get<Score>(grades[0].grade).value, 1.0 / 3.0);
  EXPECT_EQ(std::get<Score>(grades[0].grade).turn_scores,
            (std::vector<double>{0.1, 0.2 + 1.0 / 30.0}));
  EXPECT_EQ(std::get<Score>(grades[0].grade).token_advantages,
            (std::vector<double>{0.0, -1.0 / 3.0}));
  EXPECT_EQ(std::get<Score>(grades[0].grade).sub_scores.at("part"), 0.7);
  EXPECT_EQ(std::get<Score>(grades[0].grade).reason, "why");
  EXPECT_EQ(std::get<Abstain>(grades[1].grade).reason, "no opinion");
  EXPECT_EQ(std::get<GradeError>(grades[2].grade).message, "raised");
  EXPECT_EQ(std::get<Timeout>(grades[3].grade).deadline_s, 2.5);
  EXPECT_EQ(std::get<Killed>(grades[4].grade).cause, "memory");
}

TEST(RolloutRecordTest, IsOneLine) {
  EXPECT_EQ(RolloutToJson(Sample()).find('\n'), std::string::npos);
}

TEST(RolloutRecordTest, SaysWhichFieldIsWrong) {
  Rollout r;
  r.segments.resize(2);
  r.segments[1].ids = {4, 5};
  r.segments[1].versions = {1, 1};
  r.grades = {{"g", 1.0, Score{0.5}}};
  const std::string good = RolloutToJson(r);
  const struct {
    const char *from, *to, *message;
  } cases[] = {
      {"\"version\": 1", "\"version\": 2", "rollout format 2 is not readable here"},
      {"\"step\": 0, ", "", "'step' is missing"},
      {"\"finish_reason\": \"stop\"", "\"finish_reason\": \"tired\"",
       "'finish_reason' is \"tired\", which is not known"},
      {"\"versions\": [1, 1]", "\"versions\": [1]",
       "segments[1]: 'versions' has 1 entries for 2 ids"},
      {"\"ids\": [4, 5]", "\"ids\": [4, 4294967296]", "segments[1]: 'ids'[1] is out of range"},
      {"\"ids\": [4, 5]", "\"idz\": [4, 5]", "segments[1]: 'ids' is missing"},
      {"\"kind\": \"score\"", "\"kind\": \"maybe\"", "grades[0]: 'reason' is missing"},
      {"\"value\": 0.5", "\"value\": \"x\"", "grades[0]: 'value' must be a number"},
  };
  for (const auto& c : cases) {
    const std::string bad = absl::StrReplaceAll(good, {{c.from, c.to}});
    ASSERT_NE(bad, good) << c.from;
    EXPECT_THAT(std::string(RolloutFromJson(bad).status().message()), HasSubstr(c.message));
  }
}

TEST(RolloutRecordTest, RefusesTruncatedText) {
  const std::string text = RolloutToJson(Sample());
  for (size_t length = 0; length < text.size(); length += 7)
    EXPECT_FALSE(RolloutFromJson(text.substr(0, length)).ok());
}

}  // namespace
}  // namespace rft
