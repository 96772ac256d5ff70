#include "rft/tensor/copy.h"

#include <ATen/ops/empty_like.h>

#include "rft/tensor/dispatch.h"
#include "rft/tensor/kernels.h"
#include "rft/tensor/parallel.h"

namespace rft {

at::Tensor Convert(const at::Tensor& x, at::ScalarType dtype) {
  if (x.scalar_type() == dtype || !x.is_cpu()) return x.to(dtype);
  at::Tensor converted = at::empty_like(x, x.options().dtype(dtype));
  const auto& kernels = GetKernels().bf16;
  ParallelFor(x.numel(), kMinParallelWork, [&](int64_t begin, int64_t end) {
    if (dtype == at::kBFloat16)
      kernels.from_float(Data<float>(x) + begin, end - begin, Data<Bf16>(converted) + begin);
    else
      kernels.to_float(Data<Bf16>(x) + begin, end - begin, Data<float>(converted) + begin);
  });
  return converted;
}

void CopyTo(const at::Tensor& to, const at::Tensor& x) {
  to.copy_(to.device() == x.device() ? x : Convert(x, to.scalar_type()));
}

}  // namespace rft
