// Weights ready to be sampled from: the trainer makes them, an engine downcasts to what it can run.
#pragma once

#include <cstdint>

namespace rft {

// Immutable and reference-counted. A new version is published by handing over a pointer.
class PublishedWeights {
 public:
  virtual ~PublishedWeights() = default;
  virtual int64_t version() const = 0;
};

}  // namespace rft
