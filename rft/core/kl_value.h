// The value of every estimator of KL(policy || reference) on a token sampled from the policy, by d = ref - lp in nats
// (losses/kl.h says which is which). X: a number, or a tensor, whose gradient then flows. k1+ and k3+ have the values of
// k1 and k3. Pure.
#pragma once

#include <algorithm>
#include <cmath>

#include "rft/core/check.h"
#include "rft/core/loss_config.h"

namespace rft {

template <typename X>
X KlValue(KlEstimator estimator, const X& d) {
  using std::abs, std::clamp, std::expm1;  // those of tensors are found by their namespace
  // expm1: exact where d is small and e^d - 1 would cancel.
  const auto k3 = [](const X& x) -> X { return expm1(x) - x; };
  switch (estimator) {
    case KlEstimator::kK1:
    case KlEstimator::kK1Plus:
      return -d;
    case KlEstimator::kK2:
      return 0.5 * d * d;
    case KlEstimator::kK3:
    case KlEstimator::kK3Plus:
      return k3(d);
    case KlEstimator::kAbs:
      return abs(d);
    case KlEstimator::kLowVar:
      return clamp(k3(clamp(d, -20.0, 20.0)), -10.0, 10.0);
  }
  RFT_CHECK(false && "unknown KL estimator");
}

}  // namespace rft
