#include "rft/io/journal.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/testing/fault_file_system.h"
#include "tests/testing/temp_dir.h"

namespace rft {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class JournalTest : public ::testing::Test {
 protected:
  // Appends to what is there; dies on failure.
  void Write(const std::vector<std::string>& records) {
    auto writer = JournalWriter::Open(path_);
    ASSERT_TRUE(writer.ok()) << writer.status();
    for (const std::string& record : records) ASSERT_TRUE((*writer)->Append(record).ok());
    ASSERT_TRUE((*writer)->Sync().ok());
  }
  std::string Bytes() { return *fs_.ReadFile(path_); }
  void SetBytes(const std::string& bytes) { ASSERT_TRUE(WriteFile(fs_, path_, bytes).ok()); }

  FileSystem& fs_ = FileSystem::Default();
  rft::testing::TempDir dir_;
  const std::string path_ = dir_ / "journal";
};

TEST_F(JournalTest, ReadsBackRecordsAcrossReopening) {
  Write({"one", "", std::string("\0\xFF", 2)});
  Write({std::string(100'000, 'x')});
  const JournalContents contents = *ReadJournal(path_);
  EXPECT_THAT(contents.records,
              ElementsAre("one", "", std::string("\0\xFF", 2), std::string(100'000, 'x')));
  EXPECT_EQ(contents.valid_bytes, Bytes().size());
  EXPECT_EQ(contents.damage, std::nullopt);
}

// The expected value is computed bit by bit from the Castagnoli polynomial.
TEST_F(JournalTest, UsesCrc32cOverLengthAndPayload) {
  Write({"123456789"});
  uint32_t crc = 0xFFFFFFFF;
  for (const unsigned char byte : std::string("\x09\0\0\0", 4) + "123456789") {
    crc ^= byte;
    for (int bit = 0; bit < 8; ++bit) crc = crc & 1 ? crc >> 1 ^ 0x82F63B78 : crc >> 1;
  }
  crc = ~crc;
  const std::string stored = Bytes().substr(12, 4);
  for (int i = 0; i < 4; ++i)
    EXPECT_EQ(static_cast<unsigned char>(stored[i]), crc >> (8 * i) & 0xFF);
}

TEST_F(JournalTest, KeepsTheWholeRecordsWhereverItIsCutOff) {
  Write({"first", "second", "third"});
  const std::string bytes = Bytes();
  const std::vector<size_t> ends = {8, 8 + 8 + 5, 8 + 8 + 5 + 8 + 6, bytes.size()};
  for (size_t length = 0; length <= bytes.size(); ++length) {
    SetBytes(bytes.substr(0, length));
    const absl::StatusOr<JournalContents> contents = ReadJournal(path_);
    ASSERT_TRUE(contents.ok()) << contents.status();
    size_t num_whole = 0;
    while (num_whole < 3 && ends[num_whole + 1] <= length) ++num_whole;
    EXPECT_EQ(contents->records.size(), num_whole) << length;
    const bool at_boundary =
        length == 0 || std::find(ends.begin(), ends.end(), length) != ends.end();
    EXPECT_EQ(contents->damage.has_value(), !at_boundary) << length;
    Write({"after"});
    EXPECT_EQ(ReadJournal(path_)->records.size(), num_whole + 1) << length;
    EXPECT_EQ(ReadJournal(path_)->records.back(), "after");
  }
}

TEST_F(JournalTest, StopsAtAFlippedByteAndSaysWhere) {
  Write({"first", "second", "third"});
  const std::string bytes = Bytes();
  for (size_t i = 8 + 8 + 5; i < 8 + 8 + 5 + 8 + 6; ++i) {  // the second record
    std::string bad = bytes;
    bad[i] = static_cast<char>(bad[i] ^ 1);
    SetBytes(bad);
    const JournalContents contents = *ReadJournal(path_);
    EXPECT_THAT(contents.records, ElementsAre("first"));
    EXPECT_THAT(*contents.damage, HasSubstr("journal: record 1 at byte 21: "));
  }
}

TEST_F(JournalTest, PutsADamagedTailAsideBeforeContinuing) {
  Write({"first"});
  SetBytes(Bytes() + "torn");
  JournalContents recovered;
  ASSERT_TRUE(JournalWriter::Open(path_, &recovered).ok());
  EXPECT_THAT(recovered.records, ElementsAre("first"));
  EXPECT_THAT(*recovered.damage, HasSubstr("record 1 at byte 21: cut off within its header"));
  EXPECT_EQ(*fs_.ReadFile(path_ + ".damaged-21"), "torn");
  EXPECT_EQ(ReadJournal(path_)->damage, std::nullopt);
}

TEST_F(JournalTest, RefusesAFileThatIsNoJournal) {
  SetBytes("{\"step\": 1}\n");
  EXPECT_EQ(ReadJournal(path_).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_FALSE(JournalWriter::Open(path_).ok());
  EXPECT_EQ(Bytes(), "{\"step\": 1}\n");
}

TEST_F(JournalTest, DoesNotAllocateForAnImpossibleLength) {
  Write({"first"});
  SetBytes(Bytes() + std::string(8, '\xFF'));
  EXPECT_THAT(*ReadJournal(path_)->damage, HasSubstr("impossible length"));
}

TEST_F(JournalTest, SyncedRecordsSurviveAPowerCutAndLaterOnesDoNotHurt) {
  rft::testing::FaultFileSystem faults;
  {
    auto writer = *JournalWriter::Open(path_, nullptr, faults);
    ASSERT_TRUE(writer->Append("kept").ok() && writer->Sync().ok() && writer->Append("lost").ok());
  }
  faults.LoseUnsynced();
  EXPECT_THAT(ReadJournal(path_)->records, ElementsAre("kept"));
}

TEST_F(JournalTest, RecoversFromAFailureOfAnyCall) {
  rft::testing::FaultFileSystem faults;
  for (int64_t n = 1; n <= 12; ++n) {
    ASSERT_TRUE(fs_.RemoveAll(path_).ok());
    faults.FailFrom(n);
    size_t num_synced = 0;
    if (auto writer = JournalWriter::Open(path_, nullptr, faults); writer.ok()) {
      while (num_synced < 3 && (*writer)->Append("record").ok() && (*writer)->Sync().ok())
        ++num_synced;
    }
    faults.LoseUnsynced();
    JournalContents recovered;
    ASSERT_TRUE(JournalWriter::Open(path_, &recovered, faults).ok());
    EXPECT_GE(recovered.records.size(), num_synced) << n;
  }
}

}  // namespace
}  // namespace rft
