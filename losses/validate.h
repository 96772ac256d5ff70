// Checks of what a loss is given, before anything is computed. All throw c10::Error naming the
// field and what it should be.
#pragma once

#include "losses/loss.h"

namespace rft {

// logprobs_T: float32 or float64, one dimension. mask_T: present, same shape, dtype and device.
void CheckCommonInput(const LossInput& input);
// A constant of the same shape, dtype and device as logprobs_T. `why` ends the message when it is
// undefined.
void CheckConstant(const LossInput& input, const at::Tensor& constant_T, const char* name,
                   const char* why);
// Everything a clipped policy loss reads under this config.
void CheckPolicyInput(const LossInput& input, const LossConfig& config);
// Ranges of every knob, and knobs that mean nothing together.
void CheckLossConfig(const LossConfig& config);
// A loss cannot put the KL into rewards or advantages: a run does, before its loss (rollout/kl_penalty.h).
void CheckKlIsInTheLoss(const LossConfig& config);

}  // namespace rft
