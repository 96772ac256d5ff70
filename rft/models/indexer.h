// The lightning indexer of DeepSeek-V3.2 and GLM-5 (rft/tensor/key_selection.h): beside latent attention, a layer chooses the keys
// that each of its tokens attends to.
//
// Queries come from the queries' latent, one key for all heads and the heads' weights from the normed hidden states. In a head the
// rotated part comes first. Nothing of it is trained: no gradient flows through the choice, so its tensors are buffers, which no
// optimizer touches. Its linear layers are computed in the activations' type, whatever the others', and its heads' weights in
// float32.
#pragma once

#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "absl/status/status.h"
#include "rft/models/model_config.h"
#include "rft/models/parameter_store.h"
#include "rft/models/rope.h"
#include "rft/tensor/key_selection.h"
#include "rft/tensor/weight.h"

namespace rft {

// Reads index_topk, index_n_heads, index_head_dim and which layers choose for themselves (indexer_types, or index_topk_pattern,
// index_topk_freq and index_skip_topk_offset) into config.indexer. REQUIRES: ReadLatentConfig. kInvalidArgument naming the key.
absl::Status ReadIndexerConfig(ModelConfig& config, bool interleaved);

// Buffers of one layer; `q` is null where it attends to what an earlier layer chose.
struct IndexerParameters {
  Parameter *q = nullptr, *k = nullptr, *k_norm = nullptr, *k_norm_bias = nullptr,
            *weights = nullptr;
};

// Per version.
struct IndexerWeights {
  Weight q, k, weights;
  at::Tensor k_norm_D, k_norm_bias_D;  // float32
};

void AddIndexerSpecs(const std::string& attention, const ModelConfig& config,
                     std::vector<ParameterStore::Spec>& specs);
IndexerParameters FindIndexer(const std::string& attention, ParameterStore& parameters);
// For tensors on `device`; dtype: of activations.
void PackIndexer(const IndexerParameters& p, at::ScalarType dtype, at::Device device,
                 IndexerWeights& w);

// h_TH: the normed hidden states; keys rotated, [T, dim].
at::Tensor IndexerKeys(const ModelConfig& config, const IndexerWeights& w, const at::Tensor& h_TH,
                       const at::Tensor& positions_T, const RopeTable& rope);
// latent_TR: of the queries, normed.
Indexer::Queries IndexerQueries(const ModelConfig& config, const IndexerWeights& w,
                                const at::Tensor& h_TH, const at::Tensor& latent_TR,
                                const at::Tensor& positions_T, const RopeTable& rope);

}  // namespace rft
