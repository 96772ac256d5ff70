#include "rft/core/file_system.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "rft/core/status_macros.h"

namespace rft {
namespace {

constexpr size_t kBufferBytes = 64 * 1024;

absl::Status PosixError(int error, std::string_view what, std::string_view path) {
  const std::string context = std::string("cannot ").append(what).append(" ").append(path);
  return absl::ErrnoToStatus(error, context);
}

// Owns a file descriptor.
class Fd {
 public:
  explicit Fd(int fd) : fd_(fd) {}
  Fd(Fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Fd& operator=(Fd&&) = delete;
  ~Fd() {
    if (fd_ >= 0) ::close(fd_);
  }
  int get() const { return fd_; }
  int release() { return std::exchange(fd_, -1); }

 private:
  int fd_;
};

absl::StatusOr<Fd> Open(const std::string& path, int flags, std::string_view what) {
  int fd = -1;
  do {
    fd = ::open(path.c_str(), flags | O_CLOEXEC, 0666);
  } while (fd < 0 && errno == EINTR);
  if (fd < 0) return PosixError(errno, what, path);
  return Fd(fd);
}

absl::StatusOr<uint64_t> SizeOf(int fd, const std::string& path) {
  struct stat info;
  if (::fstat(fd, &info) != 0) return PosixError(errno, "stat", path);
  if (S_ISDIR(info.st_mode)) return PosixError(EISDIR, "read", path);
  return static_cast<uint64_t>(info.st_size);
}

class PosixWritableFile : public WritableFile {
 public:
  PosixWritableFile(std::string path, Fd fd) : path_(std::move(path)), fd_(std::move(fd)) {}
  ~PosixWritableFile() override {
    if (fd_.get() >= 0) Close().IgnoreError();
  }

  absl::Status Append(std::string_view bytes) override {
    if (buffer_.size() + bytes.size() > kBufferBytes) RFT_RETURN_IF_ERROR(Flush());
    if (bytes.size() >= kBufferBytes) return Write(bytes);
    buffer_.append(bytes);
    return absl::OkStatus();
  }

  absl::Status Flush() override {
    const std::string pending = std::exchange(buffer_, {});
    return Write(pending);
  }

  absl::Status Sync() override {
    RFT_RETURN_IF_ERROR(Flush());
    if (::fsync(fd_.get()) != 0) return PosixError(errno, "fsync", path_);
    return absl::OkStatus();
  }

  absl::Status Close() override {
    absl::Status status = Flush();
    if (::close(fd_.release()) != 0 && status.ok()) status = PosixError(errno, "close", path_);
    return status;
  }

 private:
  absl::Status Write(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t n = ::write(fd_.get(), bytes.data(), bytes.size());
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return PosixError(errno, "write", path_);
      bytes.remove_prefix(static_cast<size_t>(n));
    }
    return absl::OkStatus();
  }

  const std::string path_;
  Fd fd_;
  std::string buffer_;
};

class PosixMappedFile : public MappedFile {
 public:
  PosixMappedFile(void* data, size_t size) : data_(data), size_(size) {}
  ~PosixMappedFile() override {
    if (data_ != nullptr) ::munmap(data_, size_);
  }
  const char* data() const override { return static_cast<const char*>(data_); }
  size_t size() const override { return size_; }

 private:
  void* const data_;
  const size_t size_;
};

class PosixFileSystem : public FileSystem {
 public:
  absl::StatusOr<std::string> ReadFile(const std::string& path) override {
    RFT_ASSIGN_OR_RETURN(Fd fd, Open(path, O_RDONLY, "read"));
    RFT_ASSIGN_OR_RETURN(const uint64_t size, SizeOf(fd.get(), path));
    std::string bytes;
    bytes.reserve(size);
    char chunk[kBufferBytes];
    while (true) {  // until end of file, not until `size`: pipes and /proc report 0
      const ssize_t n = ::read(fd.get(), chunk, sizeof(chunk));
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return PosixError(errno, "read", path);
      if (n == 0) return bytes;
      bytes.append(chunk, static_cast<size_t>(n));
    }
  }

  absl::StatusOr<std::unique_ptr<WritableFile>> NewWritableFile(const std::string& path) override {
    RFT_ASSIGN_OR_RETURN(Fd fd, Open(path, O_WRONLY | O_CREAT | O_TRUNC, "create"));
    return std::make_unique<PosixWritableFile>(path, std::move(fd));
  }

  absl::StatusOr<std::unique_ptr<WritableFile>> NewAppendableFile(
      const std::string& path) override {
    RFT_ASSIGN_OR_RETURN(Fd fd, Open(path, O_WRONLY | O_CREAT | O_APPEND, "append to"));
    return std::make_unique<PosixWritableFile>(path, std::move(fd));
  }

  absl::StatusOr<std::unique_ptr<MappedFile>> Map(const std::string& path) override {
    RFT_ASSIGN_OR_RETURN(Fd fd, Open(path, O_RDONLY, "map"));
    RFT_ASSIGN_OR_RETURN(const uint64_t size, SizeOf(fd.get(), path));
    if (size == 0) return std::make_unique<PosixMappedFile>(nullptr, 0);
    void* data = ::mmap(nullptr, size, PROT_READ, MAP_SHARED, fd.get(), 0);
    if (data == MAP_FAILED) return PosixError(errno, "map", path);
    return std::make_unique<PosixMappedFile>(data, size);
  }

  absl::Status Rename(const std::string& from, const std::string& to) override {
    if (::rename(from.c_str(), to.c_str()) != 0)
      return PosixError(errno, "rename", absl::StrCat(from, " to ", to));
    return absl::OkStatus();
  }

  absl::Status Remove(const std::string& path) override {
    if (::remove(path.c_str()) != 0) return PosixError(errno, "remove", path);
    return absl::OkStatus();
  }

  absl::Status RemoveAll(const std::string& path) override {
    std::error_code error;
    std::filesystem::remove_all(path, error);
    return error ? PosixError(error.value(), "remove", path) : absl::OkStatus();
  }

  absl::Status CreateDirs(const std::string& path) override {
    std::error_code error;
    std::filesystem::create_directories(path, error);
    return error ? PosixError(error.value(), "create folder", path) : absl::OkStatus();
  }

  absl::Status Truncate(const std::string& path, uint64_t size) override {
    if (::truncate(path.c_str(), static_cast<off_t>(size)) != 0)
      return PosixError(errno, "truncate", path);
    return absl::OkStatus();
  }

  absl::Status SyncFile(const std::string& path) override { return SyncPath(path, O_RDONLY); }
  absl::Status SyncDir(const std::string& path) override {
    return SyncPath(path, O_RDONLY | O_DIRECTORY);
  }

  bool Exists(const std::string& path) override {
    struct stat info;
    return ::stat(path.c_str(), &info) == 0;
  }

  bool IsDirectory(const std::string& path) override {
    struct stat info;
    return ::stat(path.c_str(), &info) == 0 && S_ISDIR(info.st_mode);
  }

  absl::StatusOr<uint64_t> FileSize(const std::string& path) override {
    struct stat info;
    if (::stat(path.c_str(), &info) != 0) return PosixError(errno, "stat", path);
    return static_cast<uint64_t>(info.st_size);
  }

  absl::StatusOr<std::vector<std::string>> ListDir(const std::string& path) override {
    std::error_code error;
    std::vector<std::string> names;
    for (std::filesystem::directory_iterator it(path, error), end; !error && it != end;
         it.increment(error)) {
      names.push_back(it->path().filename().string());
    }
    if (error) return PosixError(error.value(), "list", path);
    std::sort(names.begin(), names.end());
    return names;
  }

 private:
  static absl::Status SyncPath(const std::string& path, int flags) {
    RFT_ASSIGN_OR_RETURN(Fd fd, Open(path, flags, "open for fsync"));
    if (::fsync(fd.get()) != 0) return PosixError(errno, "fsync", path);
    return absl::OkStatus();
  }
};

}  // namespace

FileSystem& FileSystem::Default() {
  static FileSystem* fs = new PosixFileSystem;
  return *fs;
}

absl::Status WriteFile(FileSystem& fs, const std::string& path, std::string_view bytes) {
  RFT_ASSIGN_OR_RETURN(std::unique_ptr<WritableFile> file, fs.NewWritableFile(path));
  RFT_RETURN_IF_ERROR(file->Append(bytes));
  RFT_RETURN_IF_ERROR(file->Sync());
  return file->Close();
}

absl::Status ReplaceFile(FileSystem& fs, const std::string& path, std::string_view bytes) {
  const std::string tmp = path + ".tmp";
  RFT_RETURN_IF_ERROR(WriteFile(fs, tmp, bytes));
  RFT_RETURN_IF_ERROR(fs.Rename(tmp, path));
  return fs.SyncDir(ParentPath(path));
}

std::string JoinPath(std::string_view dir, std::string_view path) {
  return (std::filesystem::path(dir) / std::filesystem::path(path)).string();
}

std::string ParentPath(std::string_view path) {
  std::filesystem::path p(path);
  if (!p.has_filename()) p = p.parent_path();  // "a/b/" names b
  const std::string parent = p.parent_path().string();
  return parent.empty() ? "." : parent;
}

}  // namespace rft
