// The groups that are being sampled and graded: which rollouts of each are still where. Torch-free.
// Thread safety: belongs to one thread.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "rft/api/inference_engine.h"
#include "rft/core/types.h"

namespace rft {

class GroupBuffer {
 public:
  // Opens a group whose `num_samples` rollouts are all being sampled. REQUIRES: no open group of that id.
  void Open(Group group, int32_t num_samples, RequestHandle handle);

  // The row and prompt of an open group; nullptr if there is none of that id.
  const Group* Find(int64_t group) const;

  // The rollout has left the engine and is with the graders.
  void MarkSampled(int64_t group, int32_t sample);

  // Puts a rollout in its place. Returns the group, closed, when that was the last one.
  std::optional<Group> Finish(int64_t group, int32_t sample, Rollout rollout);

  size_t num_open() const { return open_.size(); }
  int64_t NumSampling() const;  // rollouts still in the engine
  std::vector<RequestHandle> Handles() const;
  void Clear() { open_.clear(); }

  // "3 completions being sampled and 1 being graded, in 2 groups (40, 41)"
  std::string Describe() const;

 private:
  enum class Place : uint8_t { kSampling, kGrading, kDone };
  struct OpenGroup {
    Group group;
    std::vector<Place> places;  // per rollout
    RequestHandle handle = 0;
  };
  std::map<int64_t, OpenGroup> open_;
};

}  // namespace rft
