// One started process of a sandbox and its pipes, driven by whoever waits: no thread, no callbacks. Everything it sends is
// bounded; nothing it does can block the caller past a deadline.
//
// Thread safety: one thread. The thread that started it must outlive it (parent-death signal).
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "graders/worker_frame.h"
#include "graders/worker_process.h"

namespace rft {

class SandboxProcess {
 public:
  using Clock = std::chrono::steady_clock;
  static constexpr size_t kMaxFrame = (size_t{16} << 20) + 64;  // driver.py's MAX_FRAME
  static constexpr size_t kPrintedKept = 4 << 10;

  static absl::StatusOr<std::unique_ptr<SandboxProcess>> Start(const SpawnOptions& options);
  ~SandboxProcess();  // kills it and everything in its sandbox, and waits until it is gone
  SandboxProcess(const SandboxProcess&) = delete;
  SandboxProcess& operator=(const SandboxProcess&) = delete;

  // Waits for the driver's {"ready": true}. kFailedPrecondition: it ended, with what it printed.
  absl::Status WaitReady(double deadline_s);

  // Queued; sent while pumping.
  void Write(std::string_view bytes) { to_write_.append(bytes); }
  void WriteFrame(std::string_view payload) { Write(EncodeFrame(payload)); }
  void CloseInput() { close_input_ = true; }  // after what is queued

  // The next frame it sent, if one is complete. nullopt after nonsense too; ended() is then true.
  std::optional<std::string> TakeFrame();
  // Instead of frames: everything it sent. At most `max_bytes`; more ends the process (overflowed).
  void ReadRaw(size_t max_bytes) { max_raw_bytes_ = max_bytes; }
  const std::string& raw() const { return raw_; }
  bool overflowed() const { return overflowed_; }

  // It has closed its output, or was killed: no more will come.
  bool ended() const { return ended_; }
  // After ended(): waits up to `deadline` for the exit status; -1 if a signal or we ended it.
  int ExitStatus(Clock::time_point deadline);
  // The end of what it printed.
  const std::string& printed() const { return printed_; }
  void Kill();

  // Moves bytes of all `processes` until something arrived from one of them or one ended (true) or it is `deadline`.
  static bool Pump(absl::Span<SandboxProcess* const> processes, Clock::time_point deadline);

 private:
  explicit SandboxProcess(const SpawnedProcess& process) : process_(process), frames_(kMaxFrame) {}
  bool ReadReplies();
  void ReadPrinted();
  void Flush();
  static void Close(int& fd);

  SpawnedProcess process_;
  FrameReader frames_;
  std::string to_write_;
  size_t written_ = 0;
  bool close_input_ = false;
  size_t max_raw_bytes_ = 0;  // 0: frames
  std::string raw_;
  std::string printed_;
  bool overflowed_ = false;
  bool ended_ = false;
};

}  // namespace rft
