// Optimizers over the arena of a ParameterStore: state, the global norm and the step are passes over memory in fixed chunks
// and our own products, so that the bits don't depend on the thread count. State lives where the values do. Values that are not on
// the CPU: the same passes as torch's operations in place, with moments in float32. Values that are offloaded from another device
// (ParameterStore::MoveTo): gradients are copied to the CPU, and the step is made there.
#pragma once

#include <string>

#include <ATen/core/Tensor.h>

#include "absl/status/status.h"
#include "rft/api/datum.h"
#include "rft/models/parameter_store.h"
#include "rft/train/moment.h"

namespace rft {

struct OptimizerOptions {
  // adamw: Loshchilov & Hutter 2019, alg. 2, bias-corrected.
  // muon:  matrices of the layers move along their orthogonalised momentum (Jordan et al. 2024: Nesterov, 5 Newton-Schulz
  //        steps), with AdamW's update size (0.2 sqrt(larger side), 2502.16982), so one learning rate serves all; embeddings,
  //        the head and vectors take AdamW. beta1 is the momentum.
  // sgd:   as torch.optim.SGD, momentum beta1, weight decay added to the gradient. Half of AdamW's state.
  std::string kind = "adamw";
  bool decay_vectors = true;   // false: no weight decay on norms and biases
  std::string state = "fp32";  // how moments are kept (moment.h): fp32; adamw also bf16 and int8
};

class Optimizer {
 public:
  // kInvalidArgument names the option: an unknown kind or state (lists the known ones), a state that the kind can't have.
  static absl::Status Check(const OptimizerOptions& options);
  // kInvalidArgument names the parameter that would spoil the weights: NaN, infinite, out of its range.
  static absl::Status Check(const AdamParams& params);
  // Zero state for these parameters. REQUIRES: Check is ok.
  Optimizer(const ParameterStore& parameters, OptimizerOptions options);

  // Euclidean norm of `grads` (1-D float32). NaN or Inf if any element is.
  static double Norm(const at::Tensor& grads);
  // Starts a step along grads * scale. What it returns moves a piece of a parameter, and clears its gradient on the way: it has to
  // be called for every element before the next call here, while optimizer and parameters live. What can't be done in
  // any pieces (Muon's matrices, low-bit moments, another device or offloaded values) has been done on return, and is left alone by
  // it. If memory runs out, nothing has changed.
  ValueUpdate BeginStep(ParameterStore& parameters, double scale, const AdamParams& params);
  // A whole step.
  void Step(ParameterStore& parameters, double scale, const AdamParams& params) {
    parameters.Update(BeginStep(parameters, scale, params));
  }

  const OptimizerOptions& options() const { return options_; }
  Moment& first_moment() { return m_; }
  Moment& second_moment() { return v_; }  // undefined for sgd
  void Reset();                           // as new: no steps, zero state
  int64_t num_steps() const { return num_steps_; }
  void set_num_steps(int64_t n) { num_steps_ = n; }

 private:
  // The constants of one step.
  struct Constants;
  // The gradients where the values are; of offloaded ones a copy, and what it is a copy of is cleared.
  at::Tensor GradientsBesideValues(ParameterStore& parameters);
  void StepMatrix(Parameter& p, at::Tensor gradient, at::Tensor momentum, double scale,
                  const AdamParams& params) const;
  void StepLowBit(ParameterStore& parameters, const at::Tensor& grads, const Constants& c);
  void StepElsewhere(ParameterStore& parameters, const Constants& c);
  double DecayOf(const Parameter& p, const AdamParams& params) const;

  OptimizerOptions options_;
  int64_t size_ = 0;              // of the arena
  at::Device device_ = at::kCPU;  // of values and state
  Moment m_, v_;
  at::Tensor fetched_;  // gradients of offloaded values, copied
  int64_t num_steps_ = 0;
};

// Nearest semi-orthogonal matrix to a 2-D float32 matrix, roughly: 5 Newton-Schulz steps with Muon's coefficients.
at::Tensor Orthogonalize(const at::Tensor& matrix);

}  // namespace rft
