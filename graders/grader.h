// A grader judges one completion. Torch-free.
//
// Adding one is one file with one line at its end:
//
//   class AlwaysHalf : public Grader {
//    public:
//     static absl::StatusOr<std::unique_ptr<Grader>> Create(const GraderSpec& spec);   // checks spec.params
//     Grade Run(const GradeInput& input) const override { return Score{0.5}; }
//   };
//   RFT_REGISTER_GRADER("always_half", AlwaysHalf);
//
// Thread safety: Run is called from several threads at once. It should be quick; what can hang or crash belongs in a
// worker process (graders/process_grader.h, which Python graders use).
#pragma once

#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "rft/core/grade.h"
#include "rft/core/grader_spec.h"
#include "rft/core/registry.h"
#include "rft/core/types.h"

namespace rft {

// What a grader sees. Views are valid during Run only.
struct GradeInput {
  const Row& row;                       // columns of the dataset line; row.json for everything
  std::string_view completion;          // decoded text, without special tokens
  absl::Span<const TokenId> token_ids;  // the completion's ids
  FinishReason finish_reason = FinishReason::kStop;
};

class Grader {
 public:
  virtual ~Grader() = default;
  // Must return a finite score; exceptions and non-finite values become a GradeError outside.
  virtual Grade Run(const GradeInput& input) const = 0;
};

using GraderRegistry = Registry<absl::StatusOr<std::unique_ptr<Grader>>, const GraderSpec&>;

#define RFT_REGISTER_GRADER(name, Class)                                              \
  static const bool rft_registered_grader_##Class = ::rft::GraderRegistry::Get().Add( \
      name, [](const ::rft::GraderSpec& spec) { return Class::Create(spec); })

// Looks the type up and creates it. kInvalidArgument lists the known types, or names the wrong parameter
// ("graders[format].pattern: ...").
absl::StatusOr<std::unique_ptr<Grader>> CreateGrader(const GraderSpec& spec);

}  // namespace rft
