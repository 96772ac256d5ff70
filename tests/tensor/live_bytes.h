// Bytes of tensors of one device that live at once, as its allocator reports them to this thread's profiler state:
//
//   const auto live = std::make_shared<LiveBytes>(at::kCPU);
//   const c10::DebugInfoGuard guard(c10::DebugInfoKind::PROFILER_STATE, live);
#pragma once

#include <algorithm>
#include <cstdint>

#include <c10/core/Allocator.h>
#include <c10/util/ThreadLocalDebugInfo.h>

namespace rft::testing {

class LiveBytes : public c10::MemoryReportingInfoBase {
 public:
  explicit LiveBytes(c10::Device device) : device_(device) {}
  void reportMemoryUsage(void*, int64_t size, size_t, size_t, c10::Device device) override {
    if (device.type() != device_.type()) return;
    now_ += size;
    peak_ = std::max(peak_, now_);
  }
  bool memoryProfilingEnabled() const override { return true; }
  int64_t now() const { return now_; }
  int64_t peak() const { return peak_; }

 private:
  const c10::Device device_;
  int64_t now_ = 0, peak_ = 0;
};

}  // namespace rft::testing
