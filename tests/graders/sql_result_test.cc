#include <gmock/gmock.h>

#include <filesystem>

#include "absl/strings/str_cat.h"

#include "tests/graders/grader_testing.h"

namespace rft {
namespace {

using ::testing::HasSubstr;

constexpr char kSchema[] = R"(
CREATE TABLE person (name TEXT, age INTEGER, score REAL);
INSERT INTO person VALUES ('Ada', 36, 1.5), ('Bob', 40, 2.25), ('Cy', NULL, 0.1);
)";

class SqlResultTest : public ::testing::Test {
 protected:
  Grade Run(const std::string& query, const std::string& expected, Params params = {}) {
    params["schema"] = "{{item.schema}}";
    if (params.count("expected_rows") == 0) params["expected"] = "{{item.expected}}";
    GraderSpec spec = Spec("sql_result", std::move(params));
    return GradeText(spec, query, {{"schema", kSchema}, {"expected", expected}});
  }
};

TEST_F(SqlResultTest, ComparesRowsWhateverTheQueryLooksLike) {
  struct Case {
    const char* query;
    const char* expected;
    double score;
  };
  const Case cases[] = {
      {"SELECT name FROM person WHERE age > 38", "SELECT 'Bob'", 1},
      {"```sql\nSELECT name FROM person WHERE age > 38;\n```", "SELECT 'Bob'", 1},
      {"SELECT name FROM person", "SELECT name FROM person ORDER BY name DESC", 0},  // order counts
      {"SELECT name FROM person ORDER BY 1 DESC", "SELECT name FROM person", 1},  // here it doesn't
      {"SELECT name, age FROM person", "SELECT age, name FROM person", 0},
      {"SELECT age AS x FROM person", "SELECT age FROM person", 1},  // with a NULL
      {"SELECT 2.0", "SELECT 2", 1},
      {"SELECT '2'", "SELECT 2", 0},
      {"SELECT 0.1 + 0.2", "SELECT 0.3", 1},
      {"SELECT 9007199254740993", "SELECT 9007199254740992", 0},  // beyond a double's 53 bits
      {"SELECT x'00'", "SELECT x'01'", 0},
      {"SELECT 1 UNION ALL SELECT 1", "SELECT 1", 0},  // duplicates count
      {"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3) SELECT i FROM "
       "n",
       "VALUES (1), (2), (3)", 1},
      {"SELECT name FROM person WHERE 0", "SELECT name FROM person WHERE 0", 1},
      {"", "SELECT 1", 0},
      {"I can't", "SELECT 1", 0},
      {"-- nothing", "SELECT 1", 0},
      {"SELECT 1; SELECT 1", "SELECT 1", 0},
      {"SELECT 1; -- done", "SELECT 1", 1},
      {"EXPLAIN SELECT 1", "SELECT 1", 0},
  };
  for (const Case& c : cases) {
    const Grade grade = Run(c.query, c.expected);
    EXPECT_EQ(ScoreOf(grade), c.score) << c.query << "\n" << GradeReason(grade);
  }
}

TEST_F(SqlResultTest, OnlyReads) {
  const std::string file = ::testing::TempDir() + "rft_sql_escape.db";
  for (const std::string& query :
       {std::string("DELETE FROM person"), std::string("DROP TABLE person"),
        std::string("UPDATE person SET age = 1"),
        std::string("INSERT INTO person VALUES ('x', 1, 1) RETURNING name"),
        std::string("CREATE TABLE t AS SELECT 1"), "ATTACH '" + file + "' AS other",
        "VACUUM INTO '" + file + "'", std::string("PRAGMA writable_schema = 1"),
        std::string("PRAGMA table_info(person)"), std::string("SELECT load_extension('x')"),
        std::string("BEGIN"), std::string("SELECT * FROM pragma_database_list")}) {
    EXPECT_EQ(ScoreOf(Run(query, "SELECT 1")), 0.0) << query;
  }
  EXPECT_FALSE(std::filesystem::exists(file));
}

TEST_F(SqlResultTest, EndsQueriesThatAskForTooMuch) {
  const char* const kForever = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) ";
  for (const std::string& query :
       {absl::StrCat(kForever, "SELECT count(*) FROM n"), absl::StrCat(kForever, "SELECT i FROM n"),
        absl::StrCat(kForever, "SELECT zeroblob(99999), i FROM n ORDER BY i DESC"),
        std::string("SELECT zeroblob(1000000000)"),
        std::string("SELECT printf('%.*c', 1000000000, 'x')"),
        std::string("SELECT count(*) FROM person a, person b, person c, person d, person e, person "
                    "f, person g, person h, "
                    "person i, person j, person k, person l, person m, person n, person o, person "
                    "p, person q, person r")}) {
    const Grade grade = Run(query, "SELECT 1", {{"max_steps", "3000000"}, {"max_rows", "1000"}});
    EXPECT_EQ(ScoreOf(grade), 0.0) << query;
  }
  EXPECT_THAT(GradeReason(Run(absl::StrCat(kForever, "SELECT count(*) FROM n"), "SELECT 1",
                              {{"max_steps", "100000"}})),
              HasSubstr("exceeds max_steps"));
}

TEST_F(SqlResultTest, TakesRowsInsteadOfAQuery) {
  const Params params = {
      {"expected_rows", R"([["Bob", 40, 2.25], ["Cy", null, 0.1], ["Ada", 36, 1.5]])"}};
  EXPECT_EQ(ScoreOf(Run("SELECT * FROM person", "", params)), 1.0);
  EXPECT_EQ(ScoreOf(Run("SELECT * FROM person WHERE age", "", params)), 0.0);
  Params ordered = params;
  ordered["order"] = "yes";
  EXPECT_EQ(ScoreOf(Run("SELECT * FROM person", "", ordered)), 0.0);
}

TEST_F(SqlResultTest, AWrongReferenceIsNotTheModelsFault) {
  const Grade grade = Run("SELECT 1", "SELECT x FROM nowhere");
  EXPECT_STREQ(GradeKind(grade), "error");
  EXPECT_THAT(GradeReason(grade), HasSubstr("reference: no such table: nowhere"));
  const Grade schema = GradeText(
      Spec("sql_result", {{"schema", "CREATE nonsense"}, {"expected", "SELECT 1"}}), "SELECT 1");
  EXPECT_STREQ(GradeKind(schema), "error");
  const Grade attach = GradeText(
      Spec("sql_result", {{"schema", "ATTACH ':memory:' AS x"}, {"expected", "SELECT 1"}}),
      "SELECT 1");
  EXPECT_STREQ(GradeKind(attach), "error");
}

}  // namespace
}  // namespace rft
