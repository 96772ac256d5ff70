#include "rft/tensor/memory.h"

#include <malloc.h>

#include <cstdint>
#include <cstdlib>
#include <string_view>

#include <c10/core/CPUAllocator.h>
#include <c10/util/Exception.h>

namespace rft {
namespace {

constexpr size_t kLarge = 1 << 20;

// Blocks of malloc, aligned by hand; what is smaller comes from torch's own allocator.
class LargeBlocks final : public c10::Allocator {
 public:
  explicit LargeBlocks(c10::Allocator* others) : others_(others) {}

  c10::DataPtr allocate(size_t bytes) override {
    if (bytes < kLarge) return others_->allocate(bytes);
    void* block = std::malloc(bytes + c10::gAlignment);
    if (block == nullptr) c10::profiledCPUMemoryReporter().OutOfMemory(bytes);
    TORCH_CHECK_WITH(OutOfMemoryError, block != nullptr, "out of memory: the system refused ",
                     bytes >> 20, " MiB");
    c10::profiledCPUMemoryReporter().New(block, bytes);
    const uintptr_t start =
        (reinterpret_cast<uintptr_t>(block) + c10::gAlignment - 1) / c10::gAlignment;
    return {reinterpret_cast<void*>(start * c10::gAlignment), block, &Free,
            c10::Device(c10::DeviceType::CPU)};
  }
  void copy_data(void* to, const void* from, size_t bytes) const override {
    default_copy_data(to, from, bytes);
  }

 private:
  static void Free(void* block) {
    c10::profiledCPUMemoryReporter().Delete(block);
    std::free(block);
  }

  c10::Allocator* const others_;
};

}  // namespace

void KeepFreedMemory() {
  [[maybe_unused]] static const bool once = [] {
    const char* setting = std::getenv("RFT_KEEP_MEMORY");
    if (setting && std::string_view(setting) == "0") return false;
    mallopt(M_MMAP_MAX, 0);
    mallopt(M_TRIM_THRESHOLD, -1);  // never
    mallopt(M_TOP_PAD, 256 << 20);
    static LargeBlocks blocks(c10::GetCPUAllocator());
    c10::SetCPUAllocator(&blocks);
    return true;
  }();
}

}  // namespace rft
