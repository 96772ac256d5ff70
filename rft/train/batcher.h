// Packs datums into ragged micro-batches: no padding, shared prefixes once, only wanted positions reach the vocabulary.
//
// Example, G = 2, prompt of 3 tokens, completions of 2 and 1:
//   ids        p0 p1 p2 | a0 a1 | b0          (6 computed tokens; unshared it would be 5 + 4 = 9)
//   positions   0  1  2 |  3  4 |  3
// The last token of a completion predicts nothing and is not computed at all: here a1 and b0 would be dropped (4 tokens).
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "rft/api/datum.h"
#include "rft/tensor/attention.h"

namespace rft {

struct MicroBatch {
  std::vector<int64_t> ids, positions;  // T computed tokens
  std::vector<int64_t>
      owners;  // T; the datum a token was taken from (a shared prefix: its unit's first datum)
  std::vector<PackedSequence> sequences;
  // N predictions, row by row in order: hidden state `source` predicts `target`, which is token `token` of datum `datum`.
  struct Prediction {
    int64_t source, target;
    int64_t datum, token;
  };
  std::vector<Prediction> predictions;
  std::vector<int64_t> datums;  // indices of the datums in this micro-batch; one loss row each
};

// kInvalidArgument names the datum and the field. Checks everything that makes a datum trainable on this model.
absl::Status ValidateDatums(absl::Span<const Datum> datums, int64_t vocab_size,
                            int64_t max_positions);

// REQUIRES: ValidateDatums was ok. Best-fit decreasing. Datums keep their order within a micro-batch; those that share a prefix_id are packed
// into the same one (unless their number alone exceeds the budget: then the group is split and its prefix repeated).
std::vector<MicroBatch> MakeMicroBatches(absl::Span<const Datum> datums, int64_t token_budget);

}  // namespace rft
