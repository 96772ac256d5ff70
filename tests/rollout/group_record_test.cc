#include "rollout/group_record.h"

#include <gtest/gtest.h>

namespace rft {
namespace {

Group MakeGroup() {
  Row row;
  row.index = 12;
  Rollout rollout;
  rollout.step = 3;
  rollout.group = 40;
  rollout.scored = true;
  rollout.reward = 0.1 + 0.2;
  rollout.grades = {{"exact", 1.0, Score{.value = 0.3, .reason = "near"}},
                    {"slow", 0.0, Timeout{2.0}}};
  rollout.segments = {
      {.kind = SegmentKind::kPrompt, .ids = {1, 2}},
      {.kind = SegmentKind::kModel, .ids = {3}, .loss_mask = {1}, .logprobs = {-0.1f}}};
  Group group;
  group.id = 40;
  group.row = std::make_shared<const Row>(row);
  group.prompt = {1, 2};
  group.rollouts = {rollout};
  return group;
}

TEST(GroupRecordTest, ReadsBackTheSameBits) {
  const Group group = MakeGroup();
  const absl::StatusOr<Group> read = GroupFromRecord(GroupToRecord(group));
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(read->id, 40);
  EXPECT_EQ(read->row->index, 12);
  EXPECT_EQ(read->prompt, group.prompt);
  EXPECT_EQ(read->rollouts[0].reward, group.rollouts[0].reward);
  EXPECT_EQ(read->rollouts[0].segments[1].logprobs, group.rollouts[0].segments[1].logprobs);
  EXPECT_EQ(GroupToRecord(*read), GroupToRecord(group));
}

TEST(GroupRecordTest, NamesWhatIsMissing) {
  EXPECT_EQ(GroupFromRecord(R"({"id": 1, "rollouts": []})").status().message(), "'row' is missing");
  EXPECT_EQ(GroupFromRecord(R"({"id": 1, "row": 2, "rollouts": []})").status().message(),
            "'rollouts' is empty");
  EXPECT_FALSE(GroupFromRecord("[1]").ok());
}

}  // namespace
}  // namespace rft
