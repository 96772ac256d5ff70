#include "rft/core/file_system.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/testing/fault_file_system.h"
#include "tests/testing/temp_dir.h"

namespace rft {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class FileSystemTest : public ::testing::Test {
 protected:
  rft::testing::TempDir dir_;
  FileSystem& fs_ = FileSystem::Default();
};

TEST_F(FileSystemTest, ReadsBackWhatWasWrittenAndAppended) {
  ASSERT_TRUE(WriteFile(fs_, dir_ / "a", "one").ok());
  auto file = fs_.NewAppendableFile(dir_ / "a");
  ASSERT_TRUE(file.ok() && (*file)->Append(" two").ok() && (*file)->Close().ok());
  EXPECT_EQ(*fs_.ReadFile(dir_ / "a"), "one two");
  EXPECT_EQ(*fs_.FileSize(dir_ / "a"), 7u);
}

TEST_F(FileSystemTest, WritesMoreThanItsBuffer) {
  const std::string bytes(300'000, 'x');
  auto file = fs_.NewWritableFile(dir_ / "big");
  ASSERT_TRUE((*file)->Append("12").ok() && (*file)->Append(bytes).ok() &&
              (*file)->Append("34").ok() && (*file)->Close().ok());
  EXPECT_EQ(*fs_.ReadFile(dir_ / "big"), "12" + bytes + "34");
}

TEST_F(FileSystemTest, MapsFilesAlsoEmptyOnes) {
  ASSERT_TRUE(WriteFile(fs_, dir_ / "a", "mapped").ok() && WriteFile(fs_, dir_ / "empty", "").ok());
  const auto file = fs_.Map(dir_ / "a");
  EXPECT_EQ(std::string((*file)->data(), (*file)->size()), "mapped");
  EXPECT_EQ((*fs_.Map(dir_ / "empty"))->size(), 0u);
}

TEST_F(FileSystemTest, NamesPathAndReasonInErrors) {
  const absl::Status missing = fs_.ReadFile(dir_ / "none").status();
  EXPECT_EQ(missing.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(missing.message()), HasSubstr("cannot read " + dir_ / "none"));
  EXPECT_FALSE(fs_.ReadFile(dir_.path()).ok());
  EXPECT_FALSE(fs_.Map(dir_.path()).ok());
  EXPECT_EQ(fs_.Remove(dir_ / "none").code(), absl::StatusCode::kNotFound);
}

TEST_F(FileSystemTest, ListsCreatesRenamesAndRemoves) {
  ASSERT_TRUE(fs_.CreateDirs(dir_ / "x/y").ok() && fs_.CreateDirs(dir_ / "x/y").ok());
  ASSERT_TRUE(WriteFile(fs_, dir_ / "x/b", "").ok() && WriteFile(fs_, dir_ / "x/a", "").ok());
  EXPECT_THAT(*fs_.ListDir(dir_ / "x"), ElementsAre("a", "b", "y"));
  EXPECT_TRUE(fs_.IsDirectory(dir_ / "x/y") && !fs_.IsDirectory(dir_ / "x/a"));
  ASSERT_TRUE(fs_.Rename(dir_ / "x/a", dir_ / "x/y/a").ok() && fs_.SyncDir(dir_ / "x").ok() &&
              fs_.SyncFile(dir_ / "x/b").ok());
  EXPECT_TRUE(fs_.Exists(dir_ / "x/y/a"));
  ASSERT_TRUE(fs_.RemoveAll(dir_ / "x").ok() && fs_.RemoveAll(dir_ / "x").ok());
  EXPECT_FALSE(fs_.Exists(dir_ / "x"));
}

TEST_F(FileSystemTest, TruncatesFiles) {
  ASSERT_TRUE(WriteFile(fs_, dir_ / "a", "12345").ok() && fs_.Truncate(dir_ / "a", 2).ok());
  EXPECT_EQ(*fs_.ReadFile(dir_ / "a"), "12");
}

TEST(PathTest, JoinsAndSplits) {
  EXPECT_EQ(JoinPath("a/b", "c"), "a/b/c");
  EXPECT_EQ(JoinPath("a", "/c"), "/c");
  EXPECT_EQ(JoinPath("", "c"), "c");
  EXPECT_EQ(ParentPath("a/b/c"), "a/b");
  EXPECT_EQ(ParentPath("a/b/"), "a");
  EXPECT_EQ(ParentPath("c"), ".");
  EXPECT_EQ(ParentPath("/c"), "/");
}

class FaultFileSystemTest : public FileSystemTest {
 protected:
  rft::testing::FaultFileSystem faults_;
};

TEST_F(FaultFileSystemTest, FailsTheNthCallOnly) {
  faults_.FailNth(2);
  auto file = faults_.NewWritableFile(dir_ / "a");
  EXPECT_EQ((*file)->Append("x").code(), absl::StatusCode::kUnavailable);
  EXPECT_TRUE((*file)->Append("y").ok() && (*file)->Close().ok());
  EXPECT_EQ(*faults_.ReadFile(dir_ / "a"), "y");
}

TEST_F(FaultFileSystemTest, LosesWhatWasNeverSynced) {
  auto file = *faults_.NewWritableFile(dir_ / "a");
  ASSERT_TRUE(file->Append("kept").ok() && file->Sync().ok() && faults_.SyncDir(dir_.path()).ok());
  ASSERT_TRUE(file->Append(" lost").ok() && file->Close().ok() &&
              WriteFile(faults_, dir_ / "no_dir_sync", "x").ok());
  faults_.LoseUnsynced();
  EXPECT_EQ(*fs_.ReadFile(dir_ / "a"), "kept");
  EXPECT_FALSE(fs_.Exists(dir_ / "no_dir_sync"));
}

TEST_F(FaultFileSystemTest, UndoesRenamesThatWereNotSynced) {
  ASSERT_TRUE(WriteFile(faults_, dir_ / "a", "new").ok() &&
              WriteFile(faults_, dir_ / "b", "old").ok());
  ASSERT_TRUE(faults_.SyncDir(dir_.path()).ok() && faults_.Rename(dir_ / "a", dir_ / "b").ok());
  faults_.LoseUnsynced();
  EXPECT_EQ(*fs_.ReadFile(dir_ / "a"), "new");
  EXPECT_EQ(*fs_.ReadFile(dir_ / "b"), "old");
}

TEST_F(FaultFileSystemTest, ReplaceFileLeavesOldOrNewBytesWhereverItDies) {
  int64_t num_calls = 0;
  for (int64_t dies_at = 1; dies_at == 1 || dies_at <= num_calls; ++dies_at) {
    rft::testing::FaultFileSystem faults;
    ASSERT_TRUE(WriteFile(fs_, dir_ / "f", "old").ok());
    if (dies_at == 1) {  // count them first
      ASSERT_TRUE(ReplaceFile(faults, dir_ / "f", "new").ok());
      num_calls = faults.num_calls();
      ASSERT_TRUE(WriteFile(fs_, dir_ / "f", "old").ok());
    }
    faults.FailFrom(dies_at);
    EXPECT_FALSE(ReplaceFile(faults, dir_ / "f", "new").ok());
    faults.LoseUnsynced();
    EXPECT_EQ(*fs_.ReadFile(dir_ / "f"), "old");  // only the last call makes it new
  }
  EXPECT_GE(num_calls, 6);
}

}  // namespace
}  // namespace rft
