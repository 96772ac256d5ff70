// The codec of a C++ program: an interpreter in this process, reached only through LoadPythonCodec.
#include <cstdlib>
#include <string>
#include <thread>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "bindings/python_text.h"
#include "tests/testing/temp_dir.h"

namespace rft {
namespace {

using ::testing::HasSubstr;

// A folder with a small byte-level BPE and a ChatML template, made by the Python package; once for all tests of this process, and of
// no other: ctest runs each test in one of its own, several at a time.
const std::string& TokenizerFolder() {
  static const testing::TempDir folder;
  static const std::string model = [] {
    const std::string path = folder / "model";
    const std::string command = absl::StrCat(
        "'", RFT_TEST_PYTHON,
        "' -c \"import pathlib; from rft.tiny import save_tokenizer; save_tokenizer(pathlib.Path('",
        path, "'), ['What is 1 + 2?', '<answer>3</answer>', 'user assistant'] * 4)\"");
    EXPECT_EQ(std::system(command.c_str()), 0) << command;
    return path;
  }();
  return model;
}

TEST(PythonTextTest, EncodesTextAndDecodesItWithoutPython) {
  auto codec = LoadPythonCodec(TokenizerFolder());
  ASSERT_TRUE(codec.ok()) << codec.status();
  auto ids = (*codec)->Encode("What is 1 + 2? \u00e4\u20ac");
  ASSERT_TRUE(ids.ok()) << ids.status();
  EXPECT_EQ(DecodeTokens(**codec, *ids), "What is 1 + 2? \u00e4\u20ac");
}

TEST(PythonTextTest, RendersTheChatUpToWhereTheAssistantBegins) {
  auto codec = LoadPythonCodec(TokenizerFolder());
  ASSERT_TRUE(codec.ok()) << codec.status();
  auto ids = (*codec)->EncodeChat({{"user", "What is 1 + 2?"}});
  ASSERT_TRUE(ids.ok()) << ids.status();
  EXPECT_EQ(DecodeTokens(**codec, *ids),
            "user\nWhat is 1 + 2?\nassistant\n");  // without the special tokens
  EXPECT_TRUE((*codec)->is_special()[static_cast<size_t>(ids->front())]);
}

TEST(PythonTextTest, KnowsTheEndToken) {
  auto codec = LoadPythonCodec(TokenizerFolder());
  ASSERT_TRUE(codec.ok()) << codec.status();
  ASSERT_EQ((*codec)->end_ids().size(), 1u);
  EXPECT_EQ((*codec)->token_bytes()[static_cast<size_t>((*codec)->end_ids()[0])], "<|im_end|>");
}

TEST(PythonTextTest, EncodesFromSeveralThreadsAtOnce) {
  auto codec = LoadPythonCodec(TokenizerFolder());
  ASSERT_TRUE(codec.ok()) << codec.status();
  const auto expected = (*codec)->Encode("1 + 2");
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 20; ++i) EXPECT_EQ((*codec)->Encode("1 + 2").value(), *expected);
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST(PythonTextTest, SaysWhichFolderIsMissing) {
  auto codec = LoadPythonCodec("no/such/model");
  EXPECT_EQ(codec.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(codec.status().message()), HasSubstr("no/such/model"));
}

TEST(PythonTextTest, SaysThatTheTokenizerIsMissing) {
  const testing::TempDir folder;
  auto codec = LoadPythonCodec(folder.path());
  EXPECT_EQ(codec.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(codec.status().message()), HasSubstr("tokenizer.json"));
}

}  // namespace
}  // namespace rft
