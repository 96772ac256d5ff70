#include "rft/tensor/memory.h"

#include <malloc.h>

#include <cstdlib>
#include <string_view>

namespace rft {

void KeepFreedMemory() {
  [[maybe_unused]] static const bool once = [] {
    const char* setting = std::getenv("RFT_KEEP_MEMORY");
    if (setting && std::string_view(setting) == "0") return false;
    mallopt(M_MMAP_MAX, 0);
    mallopt(M_TRIM_THRESHOLD, 1 << 30);
    mallopt(M_TOP_PAD, 256 << 20);
    return true;
  }();
}

}  // namespace rft
