// sql_result: runs the SQL that the model wrote on a SQLite database in memory, made for it from the row, and compares its rows
// with those of the reference query (or given rows). Score 1 or 0. The query only reads (graders/sqlite_query.h).
//
//   schema           template: SQL that makes and fills the tables
//   expected         template: the reference query
//   expected_rows    template: JSON list of rows (lists), instead of `expected`
//   order            auto: counts if the reference query has an ORDER BY (rows given: no) | yes | no; default auto
//   tolerance        relative, of numbers that are not whole, default 1e-9
//   code             fenced: the last ```sql block (the whole text if there is no fence) | all; default fenced
//   max_steps        of SQLite's virtual machine, for each query, default 100 million
//   max_rows         default 100000
//   max_value_bytes  of one text or blob, default 100000
// Names of columns don't count, their order does; 2 and 2.0 are equal, 2 and '2' are not.
// GradeError: the schema or the reference query fails.

#include <algorithm>
#include <cmath>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "graders/grader.h"
#include "graders/param_reader.h"
#include "graders/sandbox/code_text.h"
#include "graders/sqlite_query.h"
#include "graders/template.h"
#include "rft/core/status_macros.h"
#include "rft/io/json.h"

namespace rft {
namespace {

// Numbers before texts before blobs; NULL first. Numbers by value, whatever their type.
int Order(const SqlValue& a, const SqlValue& b) {
  if (a.kind != b.kind) return a.kind < b.kind ? -1 : 1;
  if (a.kind == SqlValue::Kind::kNumber)
    return a.number < b.number ? -1 : (a.number > b.number ? 1 : 0);
  return a.text.compare(b.text);
}

bool Less(const SqlRow& a, const SqlRow& b) {
  return std::lexicographical_compare(
      a.begin(), a.end(), b.begin(), b.end(),
      [](const SqlValue& x, const SqlValue& y) { return Order(x, y) < 0; });
}

absl::StatusOr<std::vector<SqlRow>> RowsFromJson(std::string_view text) {
  RFT_ASSIGN_OR_RETURN(const json::value parsed, ParseJson(text));
  std::vector<SqlRow> rows;
  if (!parsed.is_array()) return absl::InvalidArgumentError("expected_rows is not a list of rows");
  for (const json::value& row : parsed.get_array()) {
    if (!row.is_array()) return absl::InvalidArgumentError("expected_rows: a row is not a list");
    SqlRow& values = rows.emplace_back();
    for (const json::value& value : row.get_array()) {
      if (value.is_null()) {
        values.push_back({});
      } else if (value.is_string()) {
        values.push_back({SqlValue::Kind::kText, 0, std::string(value.get_string())});
      } else if (value.is_bool()) {
        values.push_back({SqlValue::Kind::kNumber, value.get_bool() ? 1.0L : 0.0L, ""});
      } else if (value.is_int64()) {
        values.push_back(
            {SqlValue::Kind::kNumber, static_cast<long double>(value.get_int64()), ""});
      } else {
        RFT_ASSIGN_OR_RETURN(const double number, ToDouble(value));
        values.push_back({SqlValue::Kind::kNumber, number, ""});
      }
    }
  }
  return rows;
}

class SqlResult : public Grader {
 public:
  static absl::StatusOr<std::unique_ptr<Grader>> Create(const GraderSpec& spec) {
    ParamReader params(spec);
    auto grader = std::make_unique<SqlResult>();
    grader->schema_ = ReadTemplate(params, "schema");
    grader->rows_given_ = params.Has("expected_rows");
    if (grader->rows_given_ && params.Has("expected")) {
      params.AddError("expected_rows", "give either expected or expected_rows, not both");
    }
    grader->expected_ = ReadTemplate(params, grader->rows_given_ ? "expected_rows" : "expected");
    grader->order_ = params.Choice("order", {"auto", "yes", "no"}, "auto");
    grader->tolerance_ = params.Double("tolerance", 1e-9, 0.0);
    grader->fenced_ = params.Choice("code", {"fenced", "all"}, "fenced") == "fenced";
    grader->limits_.max_steps = params.Int("max_steps", 100'000'000, 1000, int64_t{1} << 50);
    grader->limits_.max_rows = params.Int("max_rows", 100'000, 1, 1 << 30);
    grader->limits_.max_value_bytes = params.Int("max_value_bytes", 100'000, 100, 1 << 30);
    RFT_RETURN_IF_ERROR(params.Finish());
    return grader;
  }

  Grade Run(const GradeInput& input) const override {
    absl::StatusOr<std::string> schema = schema_.Render(input);
    absl::StatusOr<std::string> expected = expected_.Render(input);
    for (const absl::Status& status : {schema.status(), expected.status()}) {
      if (!status.ok()) return GradeError{std::string(status.message())};
    }
    absl::StatusOr<SqliteDatabase> database = SqliteDatabase::Make(*schema, limits_);
    if (!database.ok()) return GradeError{absl::StrCat("schema: ", database.status().message())};
    absl::StatusOr<std::vector<SqlRow>> wanted =
        rows_given_ ? RowsFromJson(*expected) : database->Query(*expected);
    if (!wanted.ok()) return GradeError{absl::StrCat("reference: ", wanted.status().message())};
    const std::string query = fenced_ ? ExtractCode(input.completion, {"sql", "sqlite", "sqlite3"})
                                      : std::string(input.completion);
    absl::StatusOr<std::vector<SqlRow>> got = database->Query(query);
    if (!got.ok()) return Score{0.0, {}, std::string(got.status().message())};
    const bool ordered =
        order_ == "yes" || (order_ == "auto" && !rows_given_ &&
                            absl::StrContains(absl::AsciiStrToUpper(*expected), "ORDER BY"));
    const std::string difference = Difference(*std::move(got), *std::move(wanted), ordered);
    return Score{difference.empty() ? 1.0 : 0.0, {}, difference};
  }

 private:
  // "" if they are the same.
  std::string Difference(std::vector<SqlRow> got, std::vector<SqlRow> wanted, bool ordered) const {
    if (got.size() != wanted.size()) return absl::StrCat(got.size(), " rows, not ", wanted.size());
    if (!ordered) {
      std::sort(got.begin(), got.end(), Less);
      std::sort(wanted.begin(), wanted.end(), Less);
    }
    for (size_t i = 0; i < got.size(); ++i) {
      if (got[i].size() != wanted[i].size()) {
        return absl::StrCat(got[i].size(), " columns, not ", wanted[i].size());
      }
      for (size_t k = 0; k < got[i].size(); ++k) {
        if (!Same(got[i][k], wanted[i][k])) {
          return absl::StrCat("row ", i + 1, ordered ? "" : " (sorted)", ", column ", k + 1,
                              " differs");
        }
      }
    }
    return "";
  }

  bool Same(const SqlValue& a, const SqlValue& b) const {
    if (Order(a, b) == 0) return true;
    if (a.kind != SqlValue::Kind::kNumber || b.kind != a.kind) return false;
    if (a.number == std::floor(a.number) && b.number == std::floor(b.number)) return false;
    return std::fabs(a.number - b.number) <=
           tolerance_ * std::max(std::fabs(a.number), std::fabs(b.number));
  }

  Template schema_;
  Template expected_;
  bool rows_given_ = false;
  std::string order_;
  double tolerance_ = 0.0;
  bool fenced_ = true;
  SqlLimits limits_;
};

}  // namespace

RFT_REGISTER_GRADER("sql_result", SqlResult);

}  // namespace rft
