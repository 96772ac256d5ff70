#include "rollout/row_cursor.h"

#include <numeric>
#include <utility>

#include "rft/core/check.h"
#include "rft/core/rng.h"

namespace rft {
namespace {

constexpr uint64_t kShuffleSalt = 0x5348'5546'0000'0000;  // "SHUF", the epoch below

}  // namespace

RowCursor::RowCursor(uint64_t seed, int64_t num_rows, bool shuffle)
    : seed_(seed), num_rows_(num_rows), shuffle_(shuffle) {
  RFT_CHECK(num_rows >= 1);
}

int64_t RowCursor::RowAt(int64_t draw) {
  const int64_t epoch = draw / num_rows_, position = draw % num_rows_;
  if (!shuffle_) return position;
  if (epoch != epoch_) {
    order_.resize(static_cast<size_t>(num_rows_));
    std::iota(order_.begin(), order_.end(), int64_t{0});
    const uint64_t salt = kShuffleSalt + static_cast<uint64_t>(epoch);
    for (size_t i = order_.size() - 1; i > 0; --i)
      std::swap(order_[i], order_[BitsAt(seed_, salt, i) % (i + 1)]);
    epoch_ = epoch;
  }
  return order_[static_cast<size_t>(position)];
}

}  // namespace rft
