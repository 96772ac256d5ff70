// What training will use memory for, said before the first step. Torch-free; made by rft/train/memory_planner.h.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace rft {

// What is known of the steps to come.
struct MemoryWorkload {
  int64_t tokens_per_step =
      0;  // computed tokens of a whole step; 0: unknown, full micro-batches are assumed
  int64_t longest_row = 0;      // tokens of the longest datum: no micro-batch is smaller than it
  double predicted_part = 1.0;  // of the tokens: those that have a weight and reach the vocabulary
  bool sampled_from = false;    // an engine holds a weight version while the next is made
  int64_t kept_versions = 0;    // further versions that stay alive: a KL reference
  int64_t state_cache_bytes = 0;  // of the engine, where sampled from
};

struct MemoryItem {
  std::string name;
  int64_t bytes = 0;
  std::string what;  // "float32, trained values"
  bool on_device = false;
};

struct MemoryPlan {
  std::vector<MemoryItem> items;
  std::string device;        // "cuda:0"; empty: all is in the process's own memory
  int64_t total_bytes = 0;   // predicted peak there
  int64_t host_bytes = 0;    // with a device: in the process's memory
  int64_t limit_bytes = 0;   // 0: not known of the device
  int64_t token_budget = 0;  // computed tokens per micro-batch
};

// One line per item, the sum and the micro-batch.
std::string MemoryPlanText(const MemoryPlan& plan);

// "1.2 GB", "340 MB" (powers of 1,000).
std::string BytesText(int64_t bytes);

}  // namespace rft
