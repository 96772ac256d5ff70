#include "graders/composite_grader.h"

#include <atomic>
#include <utility>

#include "absl/strings/str_cat.h"
#include "graders/async_grader.h"
#include "graders/failure_policy.h"
#include "graders/native_pool.h"
#include "rft/io/json.h"

namespace rft {
namespace {

class SyncComposite : public Grader {
 public:
  SyncComposite(std::vector<GraderPart> parts, CombineGrades combine)
      : parts_(std::move(parts)), combine_(std::move(combine)) {}

  Grade Run(const GradeInput& input) const override {
    std::vector<NamedGrade> grades;
    for (const GraderPart& part : parts_)
      grades.push_back({part.name, 1.0, part.grader->Run(input)});
    return combine_(std::move(grades));
  }

 private:
  const std::vector<GraderPart> parts_;
  const CombineGrades combine_;
};

class AsyncComposite : public AsyncGrader {
 public:
  AsyncComposite(std::vector<GraderPart> parts, CombineGrades combine)
      : combine_(std::make_shared<const CombineGrades>(std::move(combine))) {
    bool any_native = false;
    for (GraderPart& part : parts) {
      auto async = std::dynamic_pointer_cast<const AsyncGrader>(part.grader);
      any_native = any_native || async == nullptr;
      parts_.push_back({std::move(part), std::move(async)});
    }
    if (any_native) native_ = std::make_unique<NativePool>(1);
  }

  absl::Status Prepare() const override {
    for (const Part& part : parts_) {
      if (part.async == nullptr) continue;
      if (absl::Status status = part.async->Prepare(); !status.ok()) return status;
    }
    return absl::OkStatus();
  }

  std::vector<ColumnUse> Columns() const override {
    std::vector<ColumnUse> all;
    for (const Part& part : parts_) {
      if (part.async == nullptr) continue;
      for (ColumnUse& use : part.async->Columns()) all.push_back(std::move(use));
    }
    return all;
  }

  void Start(std::shared_ptr<const GradeJob> job, std::function<void(Grade)> done) const override {
    auto pending = std::make_shared<Pending>();
    pending->combine = combine_;
    pending->done = std::move(done);
    for (const Part& part : parts_) pending->grades.push_back({part.name, 1.0, GradeError{}});
    pending->remaining = parts_.size();
    for (size_t i = 0; i < parts_.size(); ++i) {
      auto finish = [pending, i](Grade grade) {
        pending->grades[i].grade = std::move(grade);
        if (pending->remaining.fetch_sub(1) == 1)
          pending->done((*pending->combine)(std::move(pending->grades)));
      };
      if (parts_[i].async != nullptr) {
        parts_[i].async->Start(job, std::move(finish));
      } else {
        native_->Run(parts_[i].grader, job, parts_[i].deadline_s, std::move(finish));
      }
    }
  }

  void Shutdown() const override {
    for (const Part& part : parts_) {
      if (part.async != nullptr) part.async->Shutdown();
    }
    if (native_ != nullptr) native_->Shutdown();
  }

 private:
  struct Part : GraderPart {
    Part(GraderPart part, std::shared_ptr<const AsyncGrader> async)
        : GraderPart(std::move(part)), async(std::move(async)) {}
    std::shared_ptr<const AsyncGrader> async;  // the same object, if it is one
  };
  struct Pending {
    std::shared_ptr<const CombineGrades> combine;
    std::vector<NamedGrade> grades;  // slot i is written by part i alone
    std::atomic<size_t> remaining{0};
    std::function<void(Grade)> done;
  };

  const std::shared_ptr<const CombineGrades> combine_;
  std::vector<Part> parts_;
  std::unique_ptr<NativePool> native_;
};

GraderSpec PartSpec(const GraderSpec& whole, std::string_view key, const std::string& name,
                    const json::object& keys) {
  GraderSpec spec;
  spec.name = absl::StrCat(whole.name.empty() ? whole.type : whole.name, ".", name);
  spec.deadline_s = whole.deadline_s;
  spec.base_dir = whole.base_dir;
  spec.columns = whole.columns;
  const auto where = whole.param_locations.find(std::string(key));
  for (const json::key_value_pair& member : keys) {
    const std::string param(member.key());
    const json::value& value = member.value();
    if (param == "name") continue;
    if (param == "type" && value.is_string()) {
      spec.type = std::string(value.get_string());
    } else if (param == "deadline_s" && value.is_number()) {
      spec.deadline_s = value.to_number<double>();
    } else {
      spec.params[param] = value.is_string() ? std::string(value.get_string()) : ToJson(value);
      if (where != whole.param_locations.end()) spec.param_locations[param] = where->second;
    }
  }
  return spec;
}

}  // namespace

std::unique_ptr<Grader> MakeCompositeGrader(std::vector<GraderPart> parts, CombineGrades combine) {
  for (const GraderPart& part : parts) {
    if (dynamic_cast<const AsyncGrader*>(part.grader.get()) != nullptr)
      return std::make_unique<AsyncComposite>(std::move(parts), std::move(combine));
  }
  return std::make_unique<SyncComposite>(std::move(parts), std::move(combine));
}

std::vector<GraderPart> ReadGraderParts(ParamReader& params, const GraderSpec& spec,
                                        std::string_view key) {
  std::vector<GraderPart> parts;
  const absl::StatusOr<json::value> map = ParseJson(params.String(key, ""));
  if (!map.ok() || !map->is_object() || map->get_object().empty()) {
    params.AddError(key, params.Has(key) ? "must map names to graders: {NAME: {type: ...}, ...}"
                                         : "required, as {NAME: {type: ...}, ...}");
    return parts;
  }
  for (const json::key_value_pair& member : map->get_object()) {
    const std::string name(member.key());
    if (!member.value().is_object()) {
      params.AddError(absl::StrCat(std::string(key), ".", name),
                      "must be a grader: {type: ..., its keys}");
      continue;
    }
    const GraderSpec part = PartSpec(spec, key, name, member.value().get_object());
    for (const auto& [param, text] : part.params) {
      if (IsPolicyKey(param))
        params.AddError(absl::StrCat(std::string(key), ".", name, ".", param),
                        "belongs to the whole grader, not to a part");
    }
    absl::StatusOr<std::unique_ptr<Grader>> grader = CreateGrader(part);
    if (!grader.ok()) {
      params.AddLine(std::string(grader.status().message()));
      continue;
    }
    parts.push_back({name, *std::move(grader), part.deadline_s});
  }
  return parts;
}

std::variant<PartScores, Grade> CollectPartScores(const std::vector<NamedGrade>& grades) {
  PartScores result;
  for (const NamedGrade& named : grades) {
    const Score* score = std::get_if<Score>(&named.grade);
    if (score == nullptr) {
      const std::string why = absl::StrCat(named.grader, ": ", GradeReason(named.grade));
      if (std::holds_alternative<Abstain>(named.grade)) return Grade(Abstain{why});
      if (std::holds_alternative<Killed>(named.grade)) return Grade(Killed{why});
      if (std::holds_alternative<Timeout>(named.grade)) return named.grade;
      return Grade(GradeError{why});
    }
    result.by_part[named.grader] = score->value;
    result.score.sub_scores[named.grader] = score->value;
    for (const auto& [sub, value] : score->sub_scores)
      result.score.sub_scores[absl::StrCat(named.grader, "/", sub)] = value;
    if (!score->reason.empty()) {
      absl::StrAppend(&result.score.reason, result.score.reason.empty() ? "" : "; ", named.grader,
                      ": ", score->reason);
    }
  }
  return result;
}

}  // namespace rft
