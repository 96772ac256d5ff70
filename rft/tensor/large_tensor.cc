#include "rft/tensor/large_tensor.h"

#include <sys/mman.h>

#include <ATen/ops/from_blob.h>
#include <ATen/ops/zeros.h>
#include <c10/core/CPUAllocator.h>
#include <c10/util/Exception.h>

namespace rft {
namespace {

constexpr size_t kHugePage = size_t{2} << 20;

}  // namespace

at::Tensor LargeTensor(int64_t num_elements, at::ScalarType dtype, at::Device device) {
  if (!device.is_cpu()) return at::zeros({num_elements}, at::TensorOptions(device).dtype(dtype));
  const size_t bytes = static_cast<size_t>(num_elements) * c10::elementSize(dtype);
  const auto options = at::TensorOptions().dtype(dtype);
  if (bytes < kHugePage) return at::zeros({num_elements}, options);
  // One huge page more than needed, so that the data can start on a huge page's border.
  const size_t mapped = bytes + kHugePage;
  void* base = mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  TORCH_CHECK_WITH(OutOfMemoryError, base != MAP_FAILED, "out of memory: the system refused ",
                   bytes >> 20, " MiB");
  const uintptr_t start = (reinterpret_cast<uintptr_t>(base) + kHugePage - 1) & ~(kHugePage - 1);
  madvise(reinterpret_cast<void*>(start), bytes, MADV_HUGEPAGE);  // a wish: refused, nothing breaks
  return at::from_blob(
      reinterpret_cast<void*>(start), {num_elements},
      [base, mapped](void*) { munmap(base, mapped); }, options);
}

}  // namespace rft
