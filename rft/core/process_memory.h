// What the kernel says about this process's memory. Bytes; Linux only. Thread-safe.
#pragma once

#include <cstdint>

namespace rft {

int64_t ResidentBytes();  // now

// What the process may still take: free memory of the machine, or of its control group if that is less.
int64_t AvailableBytes();

}  // namespace rft
