#include "rft/api/engine_text_generator.h"

#include <utility>

#include "rft/core/status_macros.h"

namespace rft {

absl::StatusOr<GeneratedText> EngineTextGenerator::Generate(const TextRequest& request) {
  GenerateRequest generate;
  RFT_ASSIGN_OR_RETURN(generate.prompt, codec_.EncodeChat(request.messages));
  generate.sampling.temperature = request.temperature;
  generate.sampling.top_p = request.top_p;
  generate.sampling.max_tokens = request.max_tokens;
  generate.rng.run_seed = request.seed;
  if (!request.json_schema.empty()) {
    auto grammar = codec_.CompileGrammar({GrammarSpec::Kind::kJsonSchema, request.json_schema});
    if (grammar.ok()) {
      generate.grammar = *std::move(grammar);
    } else if (!absl::IsUnimplemented(grammar.status())) {
      return grammar.status();
    }
  }
  const auto num_prompt_tokens = static_cast<int64_t>(generate.prompt.size());
  std::vector<GenerateRequest> requests;
  requests.push_back(std::move(generate));
  RFT_ASSIGN_OR_RETURN(const auto results,
                       GenerateAll(engine_, std::move(requests), request.deadline_s));
  const Completion& completion = results.at(0).at(0);
  if (completion.finish_reason == FinishReason::kError)
    return absl::InternalError(completion.error);
  if (completion.finish_reason == FinishReason::kCancelled)
    return absl::UnavailableError("cancelled");
  return GeneratedText{DecodeTokens(codec_, completion.ids), completion.finish_reason,
                       num_prompt_tokens, static_cast<int64_t>(completion.ids.size())};
}

}  // namespace rft
