#include "rft/io/manifest.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_replace.h"
#include "tests/testing/fault_file_system.h"
#include "tests/testing/temp_dir.h"

namespace rft {
namespace {

using ::testing::HasSubstr;

class ManifestTest : public ::testing::Test {
 protected:
  // Writes and commits a small folder; every file holds `content`.
  absl::Status Save(FileSystem& fs, const std::string& content, bool replace = false) {
    auto commit = FolderCommit::Begin(final_, replace, fs);
    if (!commit.ok()) return commit.status();
    for (const char* name : {"weights", "sub/optimizer", "empty"}) {
      const std::string path = JoinPath((*commit)->dir(), name);
      absl::Status status = fs.CreateDirs(ParentPath(path));
      if (status.ok())
        status = WriteUnsynced(fs, path, std::string(name) == "empty" ? "" : content);
      if (!status.ok()) return status;
    }
    return (*commit)->Commit();
  }
  static absl::Status WriteUnsynced(FileSystem& fs, const std::string& path,
                                    const std::string& bytes) {
    auto file = fs.NewWritableFile(path);
    if (!file.ok()) return file.status();
    absl::Status status = (*file)->Append(bytes);
    return status.ok() ? (*file)->Close() : status;
  }
  std::string ErrorOf(const std::string& dir) { return std::string(VerifyManifest(dir).message()); }

  FileSystem& fs_ = FileSystem::Default();
  rft::testing::TempDir dir_;
  const std::string final_ = dir_ / "checkpoints/step_20";
};

TEST_F(ManifestTest, CommitsAFolderThatVerifies) {
  ASSERT_TRUE(Save(fs_, "abc").ok());
  EXPECT_TRUE(VerifyManifest(final_).ok()) << VerifyManifest(final_);
  EXPECT_EQ(*fs_.ReadFile(final_ + "/sub/optimizer"), "abc");
  EXPECT_FALSE(fs_.Exists(final_ + ".tmp"));
}

TEST_F(ManifestTest, HashesLikeSha256sum) {
  ASSERT_TRUE(WriteFile(fs_, dir_ / "abc", "abc").ok() && WriteFile(fs_, dir_ / "empty", "").ok());
  EXPECT_EQ(*Sha256OfFile(dir_ / "abc"),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(*Sha256OfFile(dir_ / "empty"),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
}

TEST_F(ManifestTest, NamesWhatHasChanged) {
  ASSERT_TRUE(Save(fs_, "abc").ok());
  ASSERT_TRUE(WriteFile(fs_, final_ + "/weights", "abd").ok());
  EXPECT_THAT(ErrorOf(final_), HasSubstr("weights: content has changed (SHA-256 differs)"));
  ASSERT_TRUE(WriteFile(fs_, final_ + "/weights", "ab").ok());
  EXPECT_THAT(ErrorOf(final_), HasSubstr("weights: has 2 bytes instead of 3"));
  ASSERT_TRUE(fs_.Remove(final_ + "/weights").ok());
  EXPECT_THAT(ErrorOf(final_), HasSubstr("weights: is missing"));
  EXPECT_EQ(VerifyManifest(final_).code(), absl::StatusCode::kDataLoss);
  ASSERT_TRUE(fs_.Remove(final_ + "/manifest.json").ok());
  EXPECT_EQ(VerifyManifest(final_).code(), absl::StatusCode::kNotFound);
}

TEST_F(ManifestTest, RefusesAManifestThatLeadsOutOfTheFolder) {
  ASSERT_TRUE(Save(fs_, "abc").ok());
  const std::string text = *fs_.ReadFile(final_ + "/manifest.json");
  ASSERT_TRUE(WriteFile(fs_, final_ + "/manifest.json",
                        absl::StrReplaceAll(text, {{"\"weights\"", "\"../weights\""}}))
                  .ok());
  EXPECT_THAT(ErrorOf(final_), HasSubstr("../weights: leads out of the folder"));
}

TEST_F(ManifestTest, RefusesAnExistingFolderUnlessToldToReplaceIt) {
  ASSERT_TRUE(Save(fs_, "old").ok());
  EXPECT_EQ(Save(fs_, "new").code(), absl::StatusCode::kAlreadyExists);
  ASSERT_TRUE(Save(fs_, "new", /*replace=*/true).ok());
  EXPECT_EQ(*fs_.ReadFile(final_ + "/weights"), "new");
  EXPECT_FALSE(fs_.Exists(final_ + ".old"));
}

TEST_F(ManifestTest, AnUncommittedFolderIsRemoved) {
  { auto commit = FolderCommit::Begin(final_); }
  EXPECT_FALSE(fs_.Exists(final_ + ".tmp"));
}

// Dies at every changing call in turn, then loses power: the folder is absent or verifies, and
// saving again works.
TEST_F(ManifestTest, IsAllOrNothingWhereverItDies) {
  ASSERT_TRUE(fs_.CreateDirs(dir_ / "checkpoints").ok());
  int64_t num_calls = 0, num_absent = 0;
  for (int64_t dies_at = 0; dies_at <= num_calls; ++dies_at) {  // 0: never
    rft::testing::FaultFileSystem faults;
    faults.FailFrom(dies_at);
    EXPECT_EQ(Save(faults, "abc").ok(), dies_at == 0);
    if (dies_at == 0) num_calls = faults.num_calls();
    faults.LoseUnsynced();
    if (fs_.Exists(final_)) {
      EXPECT_TRUE(VerifyManifest(final_).ok()) << dies_at << ": " << VerifyManifest(final_);
      EXPECT_EQ(*fs_.ReadFile(final_ + "/weights"), "abc");
    } else {
      ++num_absent;
      EXPECT_NE(dies_at, 0);
      ASSERT_TRUE(Save(faults, "abc").ok()) << dies_at;
      EXPECT_TRUE(VerifyManifest(final_).ok());
    }
    ASSERT_TRUE(fs_.RemoveAll(final_).ok());
  }
  EXPECT_GE(num_calls, 20);
  EXPECT_GE(num_absent, num_calls - 2);  // complete only from the fsync of the parent on
}

// With replace, the old folder or the new one is always there, under its name or as ".old".
TEST_F(ManifestTest, ReplacingNeverLosesBothFolders) {
  int64_t num_calls = 0;
  for (int64_t dies_at = 0; dies_at <= num_calls; ++dies_at) {
    ASSERT_TRUE(fs_.RemoveAll(dir_ / "checkpoints").ok());
    ASSERT_TRUE(Save(fs_, "old").ok());
    rft::testing::FaultFileSystem faults;
    faults.FailFrom(dies_at);
    Save(faults, "new", /*replace=*/true).IgnoreError();
    if (dies_at == 0) num_calls = faults.num_calls();
    faults.LoseUnsynced();
    const std::string found = fs_.Exists(final_) ? final_ : final_ + ".old";
    EXPECT_TRUE(VerifyManifest(found).ok()) << dies_at << ": " << VerifyManifest(found);
  }
}

}  // namespace
}  // namespace rft
