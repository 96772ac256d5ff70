#include "graders/worker_frame.h"

#include "graders/worker_messages.h"
#include "gtest/gtest.h"

namespace rft {
namespace {

TEST(WorkerFrameTest, PutsPayloadsBackTogetherFromSingleBytes) {
  const std::string stream =
      EncodeFrame("first") + EncodeFrame("") + EncodeFrame(std::string(1000, 'x'));
  FrameReader reader;
  std::vector<std::string> payloads;
  for (char c : stream) {
    reader.Append({&c, 1});
    auto next = reader.Next();
    ASSERT_TRUE(next.ok());
    if (next->has_value()) payloads.push_back(**next);
  }
  EXPECT_EQ(payloads, (std::vector<std::string>{"first", "", std::string(1000, 'x')}));
}

TEST(WorkerFrameTest, RefusesALengthAboveTheLimitBeforeTheBytesArrive) {
  FrameReader reader;
  reader.Append(std::string_view("\xFF\xFF\xFF\xFF", 4));
  EXPECT_EQ(reader.Next().status().code(), absl::StatusCode::kResourceExhausted);
}

TEST(WorkerMessagesTest, EscapesWhatTheRowAndCompletionHold) {
  GradeJob job;
  auto row = std::make_shared<Row>();
  row->json = "{\"q\": \"a\\\"b\"}";
  job.row = row;
  job.completion = "line\n\"quoted\"";
  job.token_ids = {1, 2};
  EXPECT_EQ(EncodeItem(3, job),
            "{\"id\":3,\"row\":\"{\\\"q\\\": "
            "\\\"a\\\\\\\"b\\\"}\",\"completion\":\"line\\n\\\"quoted\\\"\","
            "\"token_ids\":[1,2],\"finish_reason\":\"stop\",\"step\":0}");
}

TEST(WorkerMessagesTest, RefusesRepliesThatSayNothing) {
  for (const char* bad :
       {"", "[]", "{}", "{\"id\":1}", "{\"id\":\"1\",\"score\":1}", "{\"id\":1,\"score\":1"}) {
    EXPECT_FALSE(ParseWorkerMessage(bad).ok()) << bad;
  }
}

TEST(WorkerMessagesTest, TurnsAScoreThatIsNotFiniteIntoAnError) {
  for (const char* bad :
       {"{\"id\":1,\"score\":1e999}", "{\"id\":1,\"score\":null}", "{\"id\":1,\"score\":\"1\"}",
        "{\"id\":1,\"score\":1,\"sub_scores\":{\"a\":null}}"}) {
    auto message = ParseWorkerMessage(bad);
    if (!message.ok()) continue;  // the JSON parser refuses 1e999 itself
    EXPECT_STREQ(GradeKind(std::get<ItemGraded>(*message).grade), "error") << bad;
  }
}

}  // namespace
}  // namespace rft
