// AdamW over one arena: state, the global norm and the step are single passes over memory, in fixed chunks, so that the
// bits don't depend on the thread count.
#pragma once

#include <ATen/core/Tensor.h>

#include "rft/api/datum.h"

namespace rft {

class AdamW {
 public:
  // State (two float32 moments, zero) for an arena of this size.
  explicit AdamW(int64_t num_elements);

  // Euclidean norm of `grads` (1-D float32). NaN or Inf if any element is.
  static double Norm(const at::Tensor& grads);
  // values -= step of grads * scale (Loshchilov & Hutter 2019, alg. 2, bias-corrected). Both 1-D float32.
  void Step(const at::Tensor& values, const at::Tensor& grads, double scale,
            const AdamParams& params);

  at::Tensor& first_moment() { return m_; }
  at::Tensor& second_moment() { return v_; }
  int64_t num_steps() const { return num_steps_; }
  void set_num_steps(int64_t n) { num_steps_ = n; }

 private:
  at::Tensor m_, v_;
  int64_t num_steps_ = 0;
};

}  // namespace rft
