// What this machine can do at most, measured: the yardsticks that benchmarks are compared with. Knows no Python.
#pragma once

namespace rft::python {

struct Roofline {
  double bf16_gflops =
      0;  // best of our packed product and torch's, 1e9 floating-point operations per second
  double fp32_gflops = 0;
  double dram_gbps = 0;  // reading memory in order, 1e9 bytes per second
};

// What a pass over float32 numbers in huge pages streams, 1e9 bytes per second.
struct MemoryRoofline {
  double read_gbps = 0;  // reading one array
  double update_gbps =
      0;  // x *= c over four arrays, as an optimizer's: bytes read and bytes written
};

// Takes about a second. As MeasureRoofline otherwise.
MemoryRoofline MeasureMemory();

// Takes about two seconds. threads: 0 = as set. Nothing else should run meanwhile. Throws c10::Error (out of memory).
Roofline MeasureRoofline(int threads);

}  // namespace rft::python
