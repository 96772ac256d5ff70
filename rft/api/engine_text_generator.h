// A TextGenerator over an InferenceEngine and its TextCodec: a judge on a model of our own.
// Thread safety: as TextGenerator. Engine and codec must outlive it.
#pragma once

#include "rft/api/inference_engine.h"
#include "rft/api/text_codec.h"
#include "rft/api/text_generator.h"

namespace rft {

class EngineTextGenerator : public TextGenerator {
 public:
  EngineTextGenerator(InferenceEngine& engine, const TextCodec& codec)
      : engine_(engine), codec_(codec) {}

  // The request's seed decides the draw, whatever else the engine is doing. Where the codec compiles grammars, the reply is
  // held to json_schema (and whole, where the schema bounds its strings and lists well within max_tokens).
  absl::StatusOr<GeneratedText> Generate(const TextRequest& request) override;

 private:
  InferenceEngine& engine_;
  const TextCodec& codec_;
};

}  // namespace rft
