// The master parameters of one model: float32 views into one arena, and one arena of gradients of the same layout.
// One arena means that the optimizer, the norm and a checkpoint are single passes over memory.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include <ATen/core/Tensor.h>

#include "rft/tensor/weight.h"

namespace rft {

class ParameterStore {
 public:
  struct Spec {
    std::string name;  // Hugging Face name
    std::vector<int64_t> shape;
  };
  // Allocates zeros. Every parameter starts at a multiple of 16 floats; the padding stays 0. `buffers` are tensors of the
  // checkpoint that no optimizer touches (a router's correction bias): they are in neither arena and stay float32.
  explicit ParameterStore(const std::vector<Spec>& specs, const std::vector<Spec>& buffers = {});

  // Addresses stay valid for the store's life.
  Parameter* Find(std::string_view name);  // nullptr if there is none; not for buffers
  const Parameter* Find(std::string_view name) const;
  std::vector<Parameter>& all() { return parameters_; }
  const std::vector<Parameter>& all() const { return parameters_; }

  std::vector<Parameter>& buffers() { return buffers_; }  // `grad` stays undefined
  const std::vector<Parameter>& buffers() const { return buffers_; }

  at::Tensor& values() { return values_; }  // 1-D float32
  const at::Tensor& values() const { return values_; }
  at::Tensor& grads() { return grads_; }  // undefined until EnableGradients
  void EnableGradients();                 // allocates zeroed gradients; idempotent
  void ZeroGradients();                   // all zero again; nothing where there are none
  // What is computed with them, and the gradients, from now on live there, and the values, too, unless they are offloaded: these
  // stay on the CPU, and so does an optimizer's state. Buffers stay on the CPU. REQUIRES: no gradients yet.
  void MoveTo(at::Device device, bool offload = false);
  at::Device device() const { return device_; }
  // The values of a store of the same specs, which are on the CPU, in place of its own: what either writes, both have.
  void ShareValuesOf(const ParameterStore& other);
  bool is_offloaded() const { return values_.device() != device_; }
  // Whose gradients they are until they are used or cleared; nullptr: nobody's.
  const void* gradient_owner() const { return gradient_owner_; }
  void set_gradient_owner(const void* owner) { gradient_owner_ = owner; }
  // Calls `update` for all elements of all parameters, in pieces, on all threads.
  void Update(const ValueUpdate& update);
  int64_t num_parameters() const { return num_parameters_; }
  // Offset of a parameter in the arenas, in elements.
  int64_t OffsetOf(const Parameter& p) const;

 private:
  void SetValues(const at::Tensor& values);

  at::Tensor values_, grads_;
  at::Device device_ = at::kCPU;
  std::vector<Parameter> parameters_, buffers_;
  std::map<std::string, size_t, std::less<>> index_;
  int64_t num_parameters_ = 0;
  const void* gradient_owner_ = nullptr;
};

}  // namespace rft
