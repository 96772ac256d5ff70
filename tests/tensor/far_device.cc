#include "tests/tensor/far_device.h"

#include <malloc.h>

#include <cstdlib>
#include <cstring>
#include <string>

#include <ATen/EmptyTensor.h>
#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/detail/PrivateUse1HooksInterface.h>
#include <ATen/native/CPUFallback.h>
#include <ATen/ops/_local_scalar_dense_native.h>
#include <ATen/ops/_reshape_alias_native.h>
#include <ATen/ops/as_strided_native.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/view_native.h>
#include <c10/core/DeviceType.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <torch/library.h>

namespace rft::testing {
namespace {

constexpr auto kType = at::DeviceType::PrivateUse1;
const at::Device kFar(kType, 0);
constexpr c10::DispatchKeySet kKeys(c10::DispatchKey::PrivateUse1);
constexpr uintptr_t kUnmapped = uintptr_t{1} << 54;  // no process has memory up there

void* Far(void* p) { return reinterpret_cast<void*>(reinterpret_cast<uintptr_t>(p) | kUnmapped); }
void* Near(const void* p) {
  return reinterpret_cast<void*>(reinterpret_cast<uintptr_t>(p) & ~kUnmapped);
}

// Reports what it gives and takes back, as torch's own allocators do.
void Report(void* memory, int64_t sign) {
  if (memory != nullptr)
    c10::reportMemoryUsageToProfiler(
        memory, sign * static_cast<int64_t>(malloc_usable_size(memory)), 0, 0, kFar);
}
void Free(void* memory) {
  Report(memory, -1);
  std::free(memory);
}

class FarAllocator : public c10::Allocator {
 public:
  at::DataPtr allocate(size_t bytes) override {
    void* memory = std::malloc(bytes);
    Report(memory, 1);
    return {Far(memory), memory, &Free, kFar};
  }
  void copy_data(void* to, const void* from, size_t bytes) const override {
    std::memcpy(Near(to), Near(from), bytes);
  }
};
FarAllocator allocator;

struct FarGuard : c10::impl::NoOpDeviceGuardImpl<kType> {
  at::Device exchangeDevice(at::Device) const override { return kFar; }
  at::Device getDevice() const override { return kFar; }
  c10::Stream getStream(at::Device) const noexcept override {
    return c10::Stream(c10::Stream::DEFAULT, kFar);
  }
  c10::Stream exchangeStream(c10::Stream) const noexcept override { return getStream(kFar); }
};

struct FarHooks : at::PrivateUse1HooksInterface {
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasPrimaryContext(at::DeviceIndex) const override { return true; }
};

// The same numbers as a CPU tensor, for as long as `t` lives.
at::Tensor OnHost(const at::Tensor& t) {
  if (t.is_cpu()) return t;
  return at::from_blob(Near(t.data_ptr()), t.sizes(), t.strides(),
                       at::TensorOptions().dtype(t.scalar_type()));
}

at::Tensor Empty(at::SymIntArrayRef size, std::optional<at::ScalarType> dtype,
                 std::optional<at::Layout>, std::optional<at::Device>, std::optional<bool>,
                 std::optional<at::MemoryFormat> format) {
  return at::detail::empty_generic(C10_AS_INTARRAYREF_SLOW(size), &allocator, kKeys,
                                   c10::dtype_or_default(dtype), format);
}
at::Tensor EmptyStrided(at::SymIntArrayRef size, at::SymIntArrayRef stride,
                        std::optional<at::ScalarType> dtype, std::optional<at::Layout>,
                        std::optional<at::Device>, std::optional<bool>) {
  return at::detail::empty_strided_generic(C10_AS_INTARRAYREF_SLOW(size),
                                           C10_AS_INTARRAYREF_SLOW(stride), &allocator, kKeys,
                                           c10::dtype_or_default(dtype));
}
at::Tensor AsStrided(const at::Tensor& self, at::SymIntArrayRef size, at::SymIntArrayRef stride,
                     std::optional<c10::SymInt> offset) {
  return at::native::as_strided_tensorimpl(
      self, C10_AS_INTARRAYREF_SLOW(size), C10_AS_INTARRAYREF_SLOW(stride),
      offset ? std::make_optional(offset->guard_int(__FILE__, __LINE__)) : std::nullopt);
}
at::Tensor View(const at::Tensor& self, at::SymIntArrayRef size) {
  return at::native::view(self, C10_AS_INTARRAYREF_SLOW(size));
}
at::Tensor ReshapeAlias(const at::Tensor& self, at::SymIntArrayRef size,
                        at::SymIntArrayRef stride) {
  return at::native::_reshape_alias(self, C10_AS_INTARRAYREF_SLOW(size),
                                    C10_AS_INTARRAYREF_SLOW(stride));
}
at::Tensor CopyFrom(const at::Tensor& self, const at::Tensor& to, bool) {
  const at::AutoDispatchBelowADInplaceOrView kernel;
  OnHost(to).copy_(OnHost(self));
  return to;
}
at::Tensor CopyFromAndResize(const at::Tensor& self, const at::Tensor& to) {
  if (to.sizes() != self.sizes()) {
    TORCH_CHECK(to.numel() == 0, "far device: a result of another shape");
    const at::Tensor fresh = at::empty(self.sizes(), to.options());
    to.unsafeGetTensorImpl()->set_storage_keep_dtype(fresh.storage());
    to.unsafeGetTensorImpl()->set_sizes_contiguous(fresh.sizes());
  }
  return CopyFrom(self, to, false);
}
at::Scalar Item(const at::Tensor& self) {
  return at::native::_local_scalar_dense_cpu(OnHost(self));
}

void CheckDevice(const at::Tensor& t, const c10::OperatorHandle& op) {
  TORCH_CHECK(!t.defined() || t.device() == kFar || t.dim() == 0, op.schema().operator_name(),
              ": expected all tensors on ", kFar, ", got one on ", t.device());
}

void Fallback(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  for (const c10::IValue& value : torch::jit::last(*stack, op.schema().arguments().size())) {
    if (value.isTensor()) CheckDevice(value.toTensor(), op);
    if (value.isTensorList())
      for (const at::Tensor& t : value.toTensorVector()) CheckDevice(t, op);
  }
  at::native::cpu_fallback(op, stack, /*error_on_views=*/true);
}

TORCH_LIBRARY_IMPL(_, PrivateUse1, m) {
  m.fallback(torch::CppFunction::makeFromBoxedFunction<&Fallback>());
}
TORCH_LIBRARY_IMPL(aten, PrivateUse1, m) {
  m.impl("empty.memory_format", Empty);
  m.impl("empty_strided", EmptyStrided);
  m.impl("as_strided", AsStrided);
  m.impl("view", View);
  m.impl("_reshape_alias", ReshapeAlias);
  m.impl("_copy_from", CopyFrom);
  m.impl("_copy_from_and_resize", CopyFromAndResize);
  m.impl("_local_scalar_dense", Item);
}
// Before the first backward of the program: it starts a thread for every device there is.
C10_REGISTER_GUARD_IMPL(PrivateUse1, FarGuard)
[[maybe_unused]] const bool registered = [] {
  c10::register_privateuse1_backend("far");
  at::RegisterPrivateUse1HooksInterface(new FarHooks);
  return true;
}();

}  // namespace

at::Device FarDevice() { return kFar; }

at::Device OtherDevice() {
  const char* name = std::getenv("RFT_TEST_DEVICE");
  return name == nullptr ? kFar : at::Device(std::string(name));
}

}  // namespace rft::testing
