#include "rft/io/journal.h"

#include <array>

#include <boost/crc.hpp>

#include "absl/strings/str_cat.h"
#include "rft/core/status_macros.h"

namespace rft {
namespace {

constexpr std::string_view kMagic = "RFTJRNL1";
constexpr size_t kFrameBytes = 8;

uint32_t ReadLittleEndian(const char* bytes) {
  uint32_t value = 0;
  for (int i = 3; i >= 0; --i) value = value << 8 | static_cast<uint8_t>(bytes[i]);
  return value;
}

std::string LittleEndian(uint32_t value) {
  std::string bytes;
  for (int i = 0; i < 4; ++i) bytes += static_cast<char>(value >> (8 * i) & 0xFF);
  return bytes;
}

// CRC-32C (Castagnoli) of the length field and the payload, so that a wrong length is found too.
uint32_t Checksum(std::string_view length, std::string_view payload) {
  boost::crc_optimal<32, 0x1EDC6F41, 0xFFFFFFFF, 0xFFFFFFFF, true, true> crc;
  crc.process_bytes(length.data(), length.size());
  crc.process_bytes(payload.data(), payload.size());
  return static_cast<uint32_t>(crc.checksum());
}

// Why there is no whole record at the front of `rest`; nullptr if there is one, of *length bytes.
const char* FindDamage(std::string_view rest, uint32_t* length) {
  if (rest.size() < kFrameBytes) return "cut off within its header";
  *length = ReadLittleEndian(rest.data());
  if (*length > kMaxJournalRecordBytes) return "impossible length";
  if (rest.size() - kFrameBytes < *length) return "cut off";
  const uint32_t expected = ReadLittleEndian(rest.data() + 4);
  return Checksum(rest.substr(0, 4), rest.substr(kFrameBytes, *length)) == expected
             ? nullptr
             : "checksum does not match";
}

}  // namespace

absl::StatusOr<JournalContents> ReadJournal(const std::string& path, FileSystem& fs) {
  RFT_ASSIGN_OR_RETURN(const std::unique_ptr<MappedFile> file, fs.Map(path));
  const std::string_view bytes(file->data(), file->size());
  JournalContents contents;
  if (bytes.size() < kMagic.size() &&
      kMagic.starts_with(bytes)) {  // died while creating it; an empty file too
    if (!bytes.empty())
      contents.damage = absl::StrCat(path, ": cut off within its first ", kMagic.size(), " bytes");
    return contents;
  }
  if (!bytes.starts_with(kMagic))
    return absl::InvalidArgumentError(absl::StrCat(path, ": not a journal of rft"));
  size_t offset = kMagic.size();
  while (offset < bytes.size()) {
    uint32_t length = 0;
    if (const char* damage = FindDamage(bytes.substr(offset), &length)) {
      contents.damage = absl::StrCat(path, ": record ", contents.records.size(), " at byte ",
                                     offset, ": ", damage);
      break;
    }
    contents.records.emplace_back(bytes.substr(offset + kFrameBytes, length));
    offset += kFrameBytes + length;
  }
  contents.valid_bytes = offset;
  return contents;
}

absl::StatusOr<std::unique_ptr<JournalWriter>> JournalWriter::Open(const std::string& path,
                                                                   JournalContents* recovered,
                                                                   FileSystem& fs) {
  JournalContents contents;
  const bool existed = fs.Exists(path);
  if (existed) {
    RFT_ASSIGN_OR_RETURN(contents, ReadJournal(path, fs));
  }
  if (contents.damage) {
    RFT_ASSIGN_OR_RETURN(const std::string bytes, fs.ReadFile(path));
    RFT_RETURN_IF_ERROR(WriteFile(fs, absl::StrCat(path, ".damaged-", contents.valid_bytes),
                                  bytes.substr(contents.valid_bytes)));
    RFT_RETURN_IF_ERROR(fs.Truncate(path, contents.valid_bytes));
  }
  RFT_ASSIGN_OR_RETURN(std::unique_ptr<WritableFile> file, fs.NewAppendableFile(path));
  if (contents.valid_bytes == 0) {
    RFT_RETURN_IF_ERROR(file->Append(kMagic));
    RFT_RETURN_IF_ERROR(file->Sync());
    RFT_RETURN_IF_ERROR(fs.SyncDir(ParentPath(path)));
  }
  if (recovered != nullptr) *recovered = std::move(contents);
  return std::unique_ptr<JournalWriter>(new JournalWriter(std::move(file)));
}

absl::Status JournalWriter::Append(std::string_view record) {
  if (record.size() > kMaxJournalRecordBytes) {
    return absl::InvalidArgumentError(absl::StrCat("journal record of ", record.size(),
                                                   " bytes; at most ", kMaxJournalRecordBytes));
  }
  const std::string length = LittleEndian(static_cast<uint32_t>(record.size()));
  RFT_RETURN_IF_ERROR(file_->Append(absl::StrCat(length, LittleEndian(Checksum(length, record)))));
  RFT_RETURN_IF_ERROR(file_->Append(record));
  return file_->Flush();
}

absl::Status JournalWriter::Sync() { return file_->Sync(); }

}  // namespace rft
