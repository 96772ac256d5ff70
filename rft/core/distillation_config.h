// Knobs of distillation (losses/distillation.h). Torch-free.
#pragma once

namespace rft {

struct DistillationConfig {
  bool reverse = false;
  bool tail = true;
};

}  // namespace rft
