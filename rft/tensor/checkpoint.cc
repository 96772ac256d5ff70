#include "rft/tensor/checkpoint.h"

#include "rft/tensor/recording.h"

#include <utility>

#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>

namespace rft::ops {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

thread_local CheckpointScope* current = nullptr;

// saved_data holds tensors and numbers only.
struct BlockHolder : torch::CustomClassHolder {
  Block block;
};

struct CheckpointFunction : torch::autograd::Function<CheckpointFunction> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x, Block block) {
    auto holder = c10::make_intrusive<BlockHolder>();
    holder->block = std::move(block);
    ctx->save_for_backward({x});
    ctx->saved_data["block"] = c10::IValue::make_capsule(holder);
    return holder->block(x.clone());  // without gradients blocks work in place
  }
  static variable_list backward(AutogradContext* ctx, variable_list dy) {
    const auto capsule = ctx->saved_data["block"].toCapsule();
    const Block& block = static_cast<BlockHolder*>(capsule.get())->block;
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
  return Recomputed(std::move(block), x);
}

at::Tensor Recomputed(Block block, const at::Tensor& x) {
  return CheckpointFunction::apply(x, std::move(block));
}

}  // namespace rft::ops
