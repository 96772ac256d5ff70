// Memory that will be read soon, fetched into the last-level cache while products keep the arithmetic busy: a decode iteration
// computes for most of its time and reads keys and values for the rest, which would otherwise leave each idle in turn. Torch-free.
//
// A hint: addresses are asked for and never read, so memory may be freed meanwhile; a new list replaces what is left of
// the last, whoever gave it. Thread-safe.
#pragma once

#include <cstdint>
#include <vector>

namespace rft {

struct MemoryRange {
  const void* begin = nullptr;
  int64_t bytes = 0;
};

// Of one list: half of the last-level cache, so that what is fetched stays until it is read. 0 where the CPU doesn't tell.
int64_t ReadAheadBytes();

// What is to be fetched, in the order in which it will be read.
void SetReadAhead(std::vector<MemoryRange> ranges);

// The next piece to ask memory for, at most `max_bytes`; empty when there is none.
MemoryRange TakeReadAhead(int64_t max_bytes);

}  // namespace rft
