// The keywords of Engine.generate as a GenerateRequest.
#pragma once

#include <pybind11/pybind11.h>

#include "rft/api/inference_engine.h"

namespace rft::python {

namespace py = pybind11;

// Everything but prompt and rng. `echo` is set where it is asked for (prompt log-probabilities then are, too). Throws
// py::type_error for an unknown keyword and StatusException (kInvalidArgument) for a value of the wrong kind.
GenerateRequest ReadRequest(const py::kwargs& keywords, bool* echo);

// Puts the prompt in front of a completion: its log-probabilities as they were asked for, NaN as sampling log-probabilities,
// and the version of the first token.
void PrependPrompt(const std::vector<TokenId>& prompt, Completion& completion);

}  // namespace rft::python
