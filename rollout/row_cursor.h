// Which row of the dataset the n-th draw of a run is: epoch after epoch, each in its own derived order.
//
// RowAt is a pure function of (seed, number of rows, draw), so a checkpoint needs to keep only how many draws were made.
// Example: 3 rows, shuffled: draws 0..5 are {2, 0, 1, 0, 2, 1}: every row once per epoch.
// Thread safety: belongs to one thread (it remembers the permutation of the latest epoch).
#pragma once

#include <cstdint>
#include <vector>

namespace rft {

class RowCursor {
 public:
  // REQUIRES: num_rows >= 1. Without `shuffle` every epoch is in file order.
  RowCursor(uint64_t seed, int64_t num_rows, bool shuffle);

  int64_t RowAt(int64_t draw);

 private:
  const uint64_t seed_;
  const int64_t num_rows_;
  const bool shuffle_;
  int64_t epoch_ = -1;
  std::vector<int64_t> order_;  // of epoch_
};

}  // namespace rft
