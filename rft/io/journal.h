// An append-only file of records that survives being cut off anywhere.
//
// Layout: the 8 bytes "RFTJRNL1", then per record: length (uint32, little endian), CRC-32C of
// length and payload (uint32, little endian), payload. A reader stops at the first record that is
// not whole and intact, and says where. Thread safety: a JournalWriter is used from one thread at a
// time.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "rft/core/file_system.h"

namespace rft {

constexpr uint32_t kMaxJournalRecordBytes = uint32_t{1} << 30;

struct JournalContents {
  std::vector<std::string> records;  // the intact ones, in order
  uint64_t valid_bytes = 0;          // where the next record goes
  std::optional<std::string>
      damage;  // "run.journal: record 7 at byte 512: checksum does not match"; nullopt: all is well
};

// Damage is not an error: the records before it are good. kNotFound and others if the file can't be
// read; kInvalidArgument if it is not a journal at all.
absl::StatusOr<JournalContents> ReadJournal(const std::string& path,
                                            FileSystem& fs = FileSystem::Default());

class JournalWriter {
 public:
  // Creates the journal or continues it after its last intact record. A damaged tail is moved to
  // "<path>.damaged-<offset>" first; `recovered`, if given, receives what the journal held.
  static absl::StatusOr<std::unique_ptr<JournalWriter>> Open(
      const std::string& path, JournalContents* recovered = nullptr,
      FileSystem& fs = FileSystem::Default());

  // Hands the record to the operating system. kInvalidArgument above kMaxJournalRecordBytes. After
  // any other error the tail may be torn; open the journal anew.
  absl::Status Append(std::string_view record);
  // Makes all appended records durable.
  absl::Status Sync();

 private:
  explicit JournalWriter(std::unique_ptr<WritableFile> file) : file_(std::move(file)) {}
  const std::unique_ptr<WritableFile> file_;
};

}  // namespace rft
