#include "rft/io/jsonl_writer.h"

#include <thread>
#include <vector>

#include <gtest/gtest.h>
#include <boost/json.hpp>

#include "tests/testing/temp_dir.h"

namespace rft {
namespace {

class JsonlWriterTest : public ::testing::Test {
 protected:
  std::string Text() { return *FileSystem::Default().ReadFile(path_); }
  rft::testing::TempDir dir_;
  const std::string path_ = dir_ / "metrics.jsonl";
};

TEST_F(JsonlWriterTest, LinesAreVisibleAtOnceAndContinueAfterReopening) {
  {
    auto writer = *JsonlWriter::Open(path_);
    ASSERT_TRUE(writer->Append(boost::json::object{{"step", 1}, {"loss", 0.1}}).ok());
    EXPECT_EQ(Text(), "{\"step\": 1, \"loss\": 0.1}\n");
  }
  auto writer = *JsonlWriter::Open(path_);
  ASSERT_TRUE(writer->Append("{\"step\": 2}").ok() && writer->Sync().ok());
  EXPECT_EQ(Text(), "{\"step\": 1, \"loss\": 0.1}\n{\"step\": 2}\n");
}

TEST_F(JsonlWriterTest, CutsOffATornLastLine) {
  ASSERT_TRUE(WriteFile(FileSystem::Default(), path_, "{\"step\": 1}\n{\"st").ok());
  ASSERT_TRUE((*JsonlWriter::Open(path_))->Append("{\"step\": 2}").ok());
  EXPECT_EQ(Text(), "{\"step\": 1}\n{\"step\": 2}\n");
}

TEST_F(JsonlWriterTest, KeepsLinesOfSeveralThreadsWhole) {
  auto writer = *JsonlWriter::Open(path_);
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 200; ++i) EXPECT_TRUE(writer->Append("{\"key\": \"value\"}").ok());
    });
  }
  for (std::thread& thread : threads) thread.join();
  std::string expected;
  for (int i = 0; i < 800; ++i) expected += "{\"key\": \"value\"}\n";
  EXPECT_EQ(Text(), expected);
}

}  // namespace
}  // namespace rft
