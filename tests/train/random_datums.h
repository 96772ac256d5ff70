// Random training rows for the trainer's tests.
#pragma once

#include <cstdint>
#include <vector>

#include "rft/api/datum.h"

namespace rft::testing {

// `groups` prompts of 2 .. 40 tokens, each with 1 .. 5 answers of 1 .. 30 tokens that are trained on (some tokens masked out),
// with advantages. Every second group shares its prompt through prefix_id.
std::vector<Datum> RandomDatums(int groups, uint64_t seed);

// A row of its own, trained on but for its first token, with advantages of 1.
Datum LongRow(int64_t length);

// The same rows without shared prefixes.
std::vector<Datum> WithoutPrefixes(std::vector<Datum> datums);

}  // namespace rft::testing
