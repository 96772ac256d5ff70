// What this machine can do at most, measured: the yardsticks that benchmarks are compared with. Knows no Python.
#pragma once

namespace rft::python {

struct Roofline {
  double bf16_gflops =
      0;  // best of our packed product and torch's, 1e9 floating-point operations per second
  double fp32_gflops = 0;
  double dram_gbps = 0;  // reading memory in order, 1e9 bytes per second
};

// Takes about two seconds. threads: 0 = as set. Nothing else should run meanwhile. Throws c10::Error (out of memory).
Roofline MeasureRoofline(int threads);

}  // namespace rft::python
