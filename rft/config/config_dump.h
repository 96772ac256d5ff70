// RunConfig as text: the resolved configuration, the JSON schema, the docs table. All from the
// fields' declarations.
#pragma once

#include <string>

#include "rft/config/run_config.h"

namespace rft {

// Every field with its value; unset optional fields are null. ReadRunConfig reads it back to an
// equal configuration.
std::string ResolvedJson(const RunConfig& config);

// JSON schema (draft 2020-12) of run.yaml, for editors.
std::string ConfigSchemaJson();

// Markdown: one table per section with key, type, default, range and description.
std::string ConfigDocsMarkdown();

}  // namespace rft
