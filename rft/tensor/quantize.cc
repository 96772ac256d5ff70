#include "rft/tensor/quantize.h"

#include <algorithm>
#include <cmath>

#include "rft/tensor/kernels.h"

namespace rft {

void QuantizePanel(const float* rows, int64_t k, int64_t columns, int8_t* panel, float* scales) {
  std::fill_n(panel, PanelElements<Bf16>(k), int8_t{0});
  std::fill_n(scales, kPanelWidth, 0.0f);
  for (int64_t c = 0; c < columns; ++c) {
    const float* row = rows + c * k;
    float largest = 0.0f;
    for (int64_t i = 0; i < k; ++i) largest = std::max(largest, std::abs(row[i]));
    const float scale = largest / 127.0f;
    if (scale == 0.0f) continue;
    scales[c] = scale;
    for (int64_t i = 0; i < k; ++i) {
      const float q = std::clamp(std::nearbyint(row[i] / scale), -127.0f, 127.0f);
      panel[(i / 2 * kPanelWidth + c) * 2 + i % 2] = static_cast<int8_t>(q);
    }
  }
}

}  // namespace rft
