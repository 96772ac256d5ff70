// Sparse attention by a lightning indexer (DeepSeek-V3.2, 2512.02556, section 2.1): every token attends to the keys that a small
// scorer of its own finds best.
//
//   score(token, key) = sum_h weight_h max(q_h . k, 0);   of a token that sees more than top_k keys, the top_k best are kept
//
// Of equal scores the earlier key is kept. No gradient flows through the choice. A score is one chain of operations whatever else
// is computed with it, and so a token's choice is the same in training, prefill and decode (tests/tensor/key_selection_test.cc).
//
// Shapes: T tokens of a forward, C the compute dtype. Thread-safe; lifetimes as ops.h. Errors: c10::Error.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include <ATen/core/Tensor.h>

namespace rft {

struct PackedSequence;

// One layer's scorer in one forward. What isn't needed isn't asked for: keys where nothing caches them, queries where no token sees
// more than top_k keys.
struct Indexer {
  struct Queries {
    at::Tensor q_TX;        // [T, heads * dim] (C)
    at::Tensor weights_TH;  // [T, heads] float32
  };
  int64_t heads = 0, dim = 0, top_k = 0;  // dim is even
  std::function<at::Tensor()> keys_TD;    // [T, dim] (C)
  std::function<Queries()> queries;
};

// What the tokens of a forward attend to.
struct SelectedKeys {
  // Bit j % 16 of word j / 16 of a row: key j of that token. int16; rows of tokens that see at most top_k keys aren't filled.
  // Undefined: there are no others.
  at::Tensor words_TW;
  int64_t top_k = 0;
  // In place of the words on other devices than the CPU: of each run, [count, keys] bool; undefined: all before it.
  std::vector<at::Tensor> visible;

  // The words of a token that sees `limit` keys; null: it attends to all of them.
  const uint16_t* Of(int64_t token, int64_t limit) const {
    if (limit <= top_k || !words_TW.defined()) return nullptr;
    return static_cast<const uint16_t*>(words_TW.const_data_ptr()) + token * words_TW.size(1);
  }
};

// A token that sees more than top_k keys, the first `limit` slots of K blocks (key_blocks.h) of the indexer's keys.
template <typename T>
struct SelectingToken {
  int64_t token = 0, limit = 0;
  const T* const* k_blocks = nullptr;
};

// Words for `tokens`; T is C's element.
template <typename T>
at::Tensor SelectKeys(const Indexer& indexer, const Indexer::Queries& queries,
                      const std::vector<SelectingToken<T>>& tokens);

// Of packed runs with shared prefixes (attention.h), on any device.
SelectedKeys SelectKeysOfRuns(const Indexer& indexer, const std::vector<PackedSequence>& runs);

}  // namespace rft
