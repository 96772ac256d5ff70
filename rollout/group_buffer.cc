#include "rollout/group_buffer.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "rft/core/check.h"

namespace rft {

void GroupBuffer::Open(Group group, int32_t num_samples, RequestHandle handle) {
  const int64_t id = group.id;
  OpenGroup open;
  open.group = std::move(group);
  open.group.rollouts.resize(static_cast<size_t>(num_samples));
  open.places.assign(static_cast<size_t>(num_samples), Place::kSampling);
  open.handle = handle;
  const bool inserted = open_.emplace(id, std::move(open)).second;
  RFT_CHECK(inserted);
}

const Group* GroupBuffer::Find(int64_t group) const {
  const auto it = open_.find(group);
  return it == open_.end() ? nullptr : &it->second.group;
}

void GroupBuffer::MarkSampled(int64_t group, int32_t sample) {
  OpenGroup& open = open_.at(group);
  open.places.at(static_cast<size_t>(sample)) = Place::kGrading;
}

std::optional<Group> GroupBuffer::Finish(int64_t group, int32_t sample, Rollout rollout) {
  OpenGroup& open = open_.at(group);
  Place& place = open.places.at(static_cast<size_t>(sample));
  RFT_CHECK(place != Place::kDone);  // one completion and one list of grades per sample
  place = Place::kDone;
  open.group.rollouts[static_cast<size_t>(sample)] = std::move(rollout);
  const bool all_done = std::all_of(open.places.begin(), open.places.end(),
                                    [](Place p) { return p == Place::kDone; });
  if (!all_done) return std::nullopt;
  Group finished = std::move(open.group);
  open_.erase(group);
  return finished;
}

int64_t GroupBuffer::NumSampling() const {
  int64_t n = 0;
  for (const auto& [id, open] : open_)
    n += std::count(open.places.begin(), open.places.end(), Place::kSampling);
  return n;
}

std::vector<RequestHandle> GroupBuffer::Handles() const {
  std::vector<RequestHandle> handles;
  for (const auto& [id, open] : open_) handles.push_back(open.handle);
  return handles;
}

std::string GroupBuffer::Describe() const {
  constexpr size_t kMaxNamed = 8;
  int64_t num_sampling = 0, num_grading = 0;
  std::vector<std::string> ids;
  for (const auto& [id, open] : open_) {
    num_sampling += std::count(open.places.begin(), open.places.end(), Place::kSampling);
    num_grading += std::count(open.places.begin(), open.places.end(), Place::kGrading);
    if (ids.size() < kMaxNamed) ids.push_back(absl::StrCat(id));
  }
  return absl::StrCat(num_sampling, " completions being sampled and ", num_grading,
                      " being graded, in ", open_.size(), " groups (", absl::StrJoin(ids, ", "),
                      open_.size() > kMaxNamed ? ", ..." : "", ")");
}

}  // namespace rft
