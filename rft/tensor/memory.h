// Process-wide memory settings for tensor work.
#pragma once

namespace rft {

// Tells malloc to keep freed blocks instead of handing them back to the kernel: activations of one micro-batch are those of
// the next, and faulting their pages in again costs a training step about a fifth of its time (measured on 2 cores).
// Costs: the process's size stays at its peak. Called when a trainer or engine is made; idempotent; RFT_KEEP_MEMORY=0 turns
// it off.
void KeepFreedMemory();

}  // namespace rft
