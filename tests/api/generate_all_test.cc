#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "rft/api/inference_engine.h"
#include "tests/testing/fake_codec.h"
#include "tests/testing/fake_engine.h"

namespace rft {
namespace {

using testing::FakeAnswer;
using testing::FakeEngine;
using ::testing::HasSubstr;

std::vector<GenerateRequest> TwoRequests() {
  GenerateRequest request;
  request.prompt = {1};
  request.num_samples = 2;
  return {request, request};
}

TEST(GenerateAllTest, PutsEveryCompletionInItsPlaceWhateverEndsFirst) {
  FakeEngine engine([](const GenerateRequest&, int32_t sample) {
    return FakeAnswer{.text = std::to_string(sample), .delay_s = sample == 0 ? 0.02 : 0.0};
  });
  const auto all = GenerateAll(engine, TwoRequests());
  ASSERT_TRUE(all.ok()) << all.status();
  EXPECT_EQ((*all)[1][0].ids.front(), '0');
  EXPECT_EQ((*all)[0][1].ids.front(), '1');
}

TEST(GenerateAllTest, ReturnsAtOnceWithoutRequests) {
  FakeEngine engine([](const GenerateRequest&, int32_t) { return FakeAnswer{}; });
  EXPECT_TRUE(GenerateAll(engine, {})->empty());
}

TEST(GenerateAllTest, CancelsAndSaysHowMuchIsMissingWhenTheDeadlinePasses) {
  FakeEngine engine([](const GenerateRequest&, int32_t sample) {
    return FakeAnswer{.text = "x", .delay_s = sample == 0 ? 0.0 : 60.0};
  });
  const absl::Status status = GenerateAll(engine, TwoRequests(), 0.1).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_THAT(std::string(status.message()), HasSubstr("2 completions of 2 requests"));
  EXPECT_EQ(engine.num_open(), 0);
}

TEST(GenerateAllTest, NamesTheRequestThatWasRefusedAndCancelsTheOthers) {
  FakeEngine engine(
      [](const GenerateRequest&, int32_t) { return FakeAnswer{.text = "x", .delay_s = 60.0}; });
  std::vector<GenerateRequest> requests = TwoRequests();
  requests[1].prompt.clear();
  EXPECT_EQ(GenerateAll(engine, requests).status().message(), "request 1: prompt: empty");
  EXPECT_EQ(engine.num_open(), 0);
}

TEST(DecodeTokensTest, LeavesOutSpecialTokensAndRepairsUtf8) {
  const testing::FakeCodec codec;
  const std::vector<TokenId> ids = {testing::FakeCodec::kBegin, 'h', 0xC3, 0xA9, 0xFF,
                                    testing::FakeCodec::kEnd,   999};
  EXPECT_EQ(DecodeTokens(codec, ids), "h\xC3\xA9\xEF\xBF\xBD");
}

}  // namespace
}  // namespace rft
