#include <string>
#include <utility>
#include <vector>

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <torch/version.h>

#include "absl/strings/str_cat.h"
#include "bindings/errors.h"
#include "bindings/module.h"
#include "bindings/roofline.h"
#include "graders/grader.h"
#include "losses/loss.h"
#include "rft/engine/local_engine.h"
#include "rft/models/causal_lm.h"
#include "rft/tensor/kernels.h"
#include "rft/tensor/parallel.h"
#include "rft/tensor/try_torch.h"

extern "C" const char* rft_version();  // written by the build (cmake/RftRooms.cmake)

namespace rft::python {
namespace {

// Those that matter for choosing kernels, of the CPU this runs on.
std::vector<std::string> CpuFlags() {
  std::vector<std::string> flags;
#if defined(__x86_64__)
  __builtin_cpu_init();
#define RFT_ADD_FLAG(name) \
  if (__builtin_cpu_supports(name)) flags.push_back(name)
  RFT_ADD_FLAG("sse4.2");
  RFT_ADD_FLAG("avx");
  RFT_ADD_FLAG("avx2");
  RFT_ADD_FLAG("fma");
  RFT_ADD_FLAG("avx512f");
  RFT_ADD_FLAG("avx512bw");
  RFT_ADD_FLAG("avx512vl");
  RFT_ADD_FLAG("avx512dq");
  RFT_ADD_FLAG("avx512bf16");
  RFT_ADD_FLAG("avx512vnni");
  RFT_ADD_FLAG("amx-tile");
  RFT_ADD_FLAG("amx-bf16");
#undef RFT_ADD_FLAG
#endif
  return flags;
}

std::string Compiler() {
#if defined(__clang__)
  return absl::StrCat("clang ", __clang_version__);
#else
  return absl::StrCat("gcc ", __VERSION__);
#endif
}

py::dict BuildInfo() {
  return py::dict(py::arg("version") = rft_version(), py::arg("compiler") = Compiler(),
                  py::arg("torch") = TORCH_VERSION, py::arg("cpu_flags") = CpuFlags(),
                  py::arg("kernel") = GetKernels().name, py::arg("threads") = NumThreads(),
                  py::arg("cuda") = at::hasCUDA());
}

py::dict Registered() {
  return py::dict(py::arg("losses") = LossRegistry::Get().Names(),
                  py::arg("graders") = GraderRegistry::Get().Names(),
                  py::arg("models") = ModelRegistry::Get().Names(),
                  py::arg("engines") = EngineRegistry::Get().Names());
}

py::dict MeasuredRoofline(int threads) {
  if (threads < 0)
    throw StatusException(
        absl::InvalidArgumentError(absl::StrCat("threads: ", threads, " is negative")));
  const Roofline r = ValueOrThrow(
      WithoutGil([&] { return TryTorch([&]() -> Roofline { return MeasureRoofline(threads); }); }));
  return py::dict(py::arg("bf16_gflops") = r.bf16_gflops, py::arg("fp32_gflops") = r.fp32_gflops,
                  py::arg("dram_gbps") = r.dram_gbps);
}

py::dict MeasuredMemory() {
  const MemoryRoofline r = ValueOrThrow(
      WithoutGil([] { return TryTorch([]() -> MemoryRoofline { return MeasureMemory(); }); }));
  return py::dict(py::arg("read_gbps") = r.read_gbps, py::arg("update_gbps") = r.update_gbps);
}

}  // namespace

void BindInfo(py::module_& m) {
  m.def("registered", &Registered, "Names of the registered losses, graders, models and engines.");
  m.def(
      "build_info", &BuildInfo,
      "version, compiler, torch (that this was built with), cpu_flags, kernel (the CPU kernels in "
      "use), threads (of tensor work), cuda (whether torch sees a device).");
  m.def(
      "set_threads",
      [](int threads) {
        if (threads < 0)
          throw StatusException(
              absl::InvalidArgumentError(absl::StrCat("threads: ", threads, " is negative")));
        SetNumThreads(threads);
        at::set_num_threads(threads > 0 ? threads : NumThreads());
      },
      py::arg("threads"),
      "Threads of all tensor work of this process from now on; 0: all cores. No result depends on "
      "it.");
  m.def("roofline", &MeasuredRoofline, py::arg("threads") = 0,
        "What this machine can do at most, measured in about two seconds: bf16_gflops, "
        "fp32_gflops, dram_gbps. threads: 0: as "
        "set.");
  m.def("memory_roofline", &MeasuredMemory,
        "What passes over float32 numbers in huge pages stream, measured in about a second: "
        "read_gbps, and update_gbps (four arrays updated in place; bytes read and bytes written).");
}

}  // namespace rft::python
