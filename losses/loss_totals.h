// Adds up the outputs of a step's calls, and derives what is reported: sums and denominators first, one division at the end.
#pragma once

#include <map>
#include <string>

#include "losses/loss.h"

namespace rft {

class LossTotals {
 public:
  void Add(const LossOutput& output);

  // Token means, extremes, and what follows from them: tis_ess, masked_frac, grad_norm_* (docs/losses.md).
  std::map<std::string, double> Metrics() const;
  double num_tokens() const { return num_tokens_; }
  double num_rows() const { return num_rows_; }

 private:
  std::map<std::string, double> sums_, maxima_, minima_;
  double denominator_ = 0.0, num_tokens_ = 0.0, num_rows_ = 0.0, num_masked_ = 0.0;
};

}  // namespace rft
