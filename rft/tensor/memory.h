// Process-wide memory settings for tensor work.
#pragma once

namespace rft {

// Activations of one micro-batch are those of the next, so freed blocks stay with the process instead of going back to the
// kernel: faulting their pages in again costs a training step about a fifth of its time (measured on 2 cores). And torch's CPU
// tensors come from malloc itself: aligned_alloc of glibc before 2.38 never fits a block into the hole that one of
// the same size left (1.3 GB of holes in a fine-tune of 135 M parameters).
// Costs: the process's size stays at its peak. Called when a trainer or engine is made; idempotent; RFT_KEEP_MEMORY=0 turns
// both off. Thread-safe.
void KeepFreedMemory();

}  // namespace rft
