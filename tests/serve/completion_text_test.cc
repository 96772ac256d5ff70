#include "rft/serve/completion_text.h"

#include <gtest/gtest.h>

#include "tests/testing/fake_codec.h"

namespace rft::serve {
namespace {

using testing::ByteIds;
using testing::FakeCodec;

// Byte tokens: the pieces that Add returned, joined with '|', then what Finish returned.
std::string Pieces(const std::string& bytes, TextOptions options, bool stopped) {
  CompletionText text(std::make_shared<FakeCodec>(), std::make_shared<TextOptions>(options));
  std::string pieces;
  for (const TokenId id : ByteIds(bytes)) pieces += text.Add(id) + "|";
  return pieces + text.Finish(stopped);
}

TEST(CompletionTextTest, HandsOutACharacterWithItsLastByte) {
  EXPECT_EQ(Pieces("a\xC3\xA9\xF0\x9F\x99\x82", {}, true), "a||\xC3\xA9||||\xF0\x9F\x99\x82|");
}

TEST(CompletionTextTest, ReplacesWhatIsNoUtf8) {
  EXPECT_EQ(Pieces("a\xFF"
                   "b\xC3",
                   {}, false),
            "a|\xEF\xBF\xBD|b||\xEF\xBF\xBD");
}

TEST(CompletionTextTest, HoldsBackWhatMayBecomeAStopString) {
  EXPECT_EQ(Pieces("xSTyST", {.stop_strings = {"STOP"}}, false), "x|||STy|||ST");
}

TEST(CompletionTextTest, LeavesTheStopStringOut) {
  EXPECT_EQ(Pieces("xSTOP", {.stop_strings = {"STOP"}}, true), "x|||||");
}

TEST(CompletionTextTest, IncludesTheStopStringIfAskedTo) {
  EXPECT_EQ(Pieces("xSTOP", {.stop_strings = {"STOP"}, .include_stop_string = true}, true),
            "x|||||STOP");
}

TEST(CompletionTextTest, KeepsAStopStringThatDidNotStop) {
  EXPECT_EQ(Pieces("xSTOPy", {.stop_strings = {"STOP"}}, false), "x|||||STOPy|");
}

TEST(CompletionTextTest, CutsAtTheEarliestOfTwoStopStrings) {
  EXPECT_EQ(Pieces("xab", {.stop_strings = {"b", "ab"}}, true), "x|||");
}

TEST(CompletionTextTest, NamesTheStopString) {
  CompletionText text(std::make_shared<FakeCodec>(),
                      std::make_shared<TextOptions>(TextOptions{.stop_strings = {"q", "yz"}}));
  for (const TokenId id : ByteIds("xyz")) text.Add(id);
  EXPECT_EQ(text.Finish(true), "");
  EXPECT_EQ(text.stop_string(), "yz");
}

TEST(CompletionTextTest, SkipsSpecialTokensUnlessAskedNotTo) {
  for (const bool skip : {true, false}) {
    CompletionText text(std::make_shared<FakeCodec>(),
                        std::make_shared<TextOptions>(TextOptions{.skip_special_tokens = skip}));
    EXPECT_EQ(text.Add('a') + text.Add(FakeCodec::kEnd) + text.Finish(true), skip ? "a" : "a<end>");
  }
}

TEST(CompletionTextTest, StopsAtTheTextOfASpecialTokenThatItDoesNotShow) {
  for (const char* stop : {"<end>", "b<en"}) {
    CompletionText text(std::make_shared<FakeCodec>(),
                        std::make_shared<TextOptions>(TextOptions{.stop_strings = {stop}}));
    std::string shown;
    for (const TokenId id : std::vector<TokenId>{'a', FakeCodec::kBegin, 'b', FakeCodec::kEnd})
      shown += text.Add(id);
    shown += text.Finish(true);
    EXPECT_EQ(shown, stop[0] == 'b' ? "a" : "ab");
    EXPECT_EQ(text.stop_string(), stop);
  }
}

TEST(CompletionTextTest, PutsACharacterTogetherAroundASpecialToken) {
  CompletionText text(std::make_shared<FakeCodec>(), std::make_shared<TextOptions>());
  std::string shown;
  for (const TokenId id : std::vector<TokenId>{0xC3, FakeCodec::kBegin, 0xA9, 'b'})
    shown += text.Add(id);
  EXPECT_EQ(shown,
            "\xC3\xA9"
            "b");
}

TEST(CompletionTextTest, IgnoresIdsOutsideTheTable) {
  CompletionText text(std::make_shared<FakeCodec>(), std::make_shared<TextOptions>());
  EXPECT_EQ(text.Add(100000) + text.Add(-1) + text.Finish(true), "");
}

}  // namespace
}  // namespace rft::serve
