#include "rft/tensor/checkpoint.h"

#include "rft/tensor/recording.h"

#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>

namespace rft::ops {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

thread_local CheckpointScope* current = nullptr;

struct CheckpointFunction : torch::autograd::Function<CheckpointFunction> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x, int64_t block) {
    ctx->save_for_backward({x});
    ctx->saved_data["block"] = block;
    return (*reinterpret_cast<const Block*>(block))(
        x.clone());  // without gradients blocks work in place
  }
  static variable_list backward(AutogradContext* ctx, variable_list dy) {
    const auto& block = *reinterpret_cast<const Block*>(ctx->saved_data["block"].toInt());
    const at::Tensor x = ctx->get_saved_variables()[0].detach().requires_grad_(true);
    at::Tensor y;
    {
      at::AutoGradMode recording(true);
      y = block(x);
    }
    torch::autograd::backward({y}, {dy[0]});
    return {x.grad(), at::Tensor()};
  }
};

}  // namespace

CheckpointScope::CheckpointScope(int64_t every) : every_(every), outer_(current) { current = this; }
CheckpointScope::~CheckpointScope() { current = outer_; }

at::Tensor Checkpoint(int64_t index, Block block, const at::Tensor& x) {
  CheckpointScope* scope = current;
  if (scope == nullptr || scope->every_ == 0 || index % scope->every_ != 0 || !Recording(x))
    return block(x);
  scope->blocks_.push_back(std::move(block));
  return CheckpointFunction::apply(x, reinterpret_cast<int64_t>(&scope->blocks_.back()));
}

}  // namespace rft::ops
