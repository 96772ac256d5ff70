#include "rft/tensor/memory.h"

#include <malloc.h>

#include <cstdint>
#include <cstdlib>
#include <string_view>

#include <c10/core/CPUAllocator.h>
#include <c10/util/Exception.h>

namespace rft {
namespace {

// Blocks of malloc, aligned by hand: what malloc gave is kept in front of the data. oneDNN's raw allocations come from here, too.
class MallocAllocator final : public c10::Allocator {
 public:
  c10::DataPtr allocate(size_t bytes) override {
    void* data = bytes == 0 ? nullptr : Allocate(bytes);
    return {data, data, &Free, c10::Device(c10::DeviceType::CPU)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &Free; }
  void copy_data(void* to, const void* from, size_t bytes) const override {
    default_copy_data(to, from, bytes);
  }

 private:
  static void* Allocate(size_t bytes) {
    void* block =
        bytes < PTRDIFF_MAX / 2 ? std::malloc(bytes + sizeof(void*) + c10::gAlignment) : nullptr;
    if (block == nullptr) c10::profiledCPUMemoryReporter().OutOfMemory(bytes);
    TORCH_CHECK_WITH(OutOfMemoryError, block != nullptr, "out of memory: the system refused ",
                     bytes >> 20, " MiB");
    const uintptr_t first = reinterpret_cast<uintptr_t>(block) + sizeof(void*);
    auto** data =
        reinterpret_cast<void**>((first + c10::gAlignment - 1) / c10::gAlignment * c10::gAlignment);
    data[-1] = block;
    c10::profiledCPUMemoryReporter().New(data, bytes);
    return data;
  }
  static void Free(void* data) {
    if (data == nullptr) return;
    c10::profiledCPUMemoryReporter().Delete(data);
    std::free(static_cast<void**>(data)[-1]);
  }
};

}  // namespace

void KeepFreedMemory() {
  [[maybe_unused]] static const bool once = [] {
    const char* setting = std::getenv("RFT_KEEP_MEMORY");
    if (setting && std::string_view(setting) == "0") return false;
    mallopt(M_MMAP_MAX, 0);
    mallopt(M_TRIM_THRESHOLD, -1);  // never
    mallopt(M_TOP_PAD, 256 << 20);
    static MallocAllocator allocator;
    c10::SetCPUAllocator(&allocator);
    return true;
  }();
}

}  // namespace rft
