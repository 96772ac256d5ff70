// Weights as int8: w[n, k] = q[n, k] * scale[n] with |q| <= 127, symmetric, one scale per output channel. Torch-free.
#pragma once

#include <cstdint>

namespace rft {

// One panel from rows [columns][k], columns <= 48: scale = max |w| / 127 of the row, q = w / scale rounded to the nearest even,
// so that |w - q * scale| <= scale / 2. A row of zeros has scale 0.
// panel: [k / 2][48][2] as a bf16 panel (columns that aren't there are 0); scales: 48. REQUIRES: k even.
void QuantizePanel(const float* rows, int64_t k, int64_t columns, int8_t* panel, float* scales);

}  // namespace rft
