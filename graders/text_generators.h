// Text generators of this process by name, for graders whose configuration is text: a program that has an engine gives it a
// name, and `generator: my_judge` in a grader's section finds it.
// Thread safety: any thread. What Find returned stays valid after the name is given away.
#pragma once

#include <memory>
#include <string>

#include "rft/api/text_generator.h"

namespace rft {

// `generator: policy`: the model that a run trains judges itself. Named by the run, after its graders have been prepared.
inline constexpr char kPolicyGenerator[] = "policy";

// Null takes the name away.
void SetTextGenerator(const std::string& name, std::shared_ptr<TextGenerator> generator);
std::shared_ptr<TextGenerator> FindTextGenerator(const std::string& name);  // null: no such name

}  // namespace rft
