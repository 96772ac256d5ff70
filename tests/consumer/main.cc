// Prints what is registered in the installed librft.so: proof that headers, library, torch and registrations all arrived.
#include <cstdio>

#include "graders/grader.h"
#include "losses/loss.h"

int main() {
  for (const auto& name : rft::GraderRegistry::Get().Names())
    std::printf("grader %s\n", name.c_str());
  for (const auto& name : rft::LossRegistry::Get().Names()) std::printf("loss %s\n", name.c_str());
  return rft::FindLoss("grpo").DefaultConfig().name == "grpo" ? 0 : 1;
}
