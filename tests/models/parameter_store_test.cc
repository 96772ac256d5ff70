#include "rft/models/parameter_store.h"

#include <c10/util/Exception.h>
#include <gtest/gtest.h>

namespace rft {
namespace {

TEST(ParameterStoreTest, LaysParametersOutAlignedInOneArena) {
  ParameterStore store({{"a", {3, 5}}, {"b", {16}}, {"c", {2, 2}}});
  EXPECT_EQ(store.num_parameters(), 35);
  EXPECT_EQ(store.values().numel(), 48);
  EXPECT_EQ(store.OffsetOf(*store.Find("b")), 16);
  EXPECT_EQ(store.OffsetOf(*store.Find("c")), 32);
  store.Find("b")->value.fill_(2.0);
  EXPECT_EQ(store.values().sum().item<double>(), 32.0);
}

TEST(ParameterStoreTest, FindsByNameOnly) {
  ParameterStore store({{"a", {3}}});
  EXPECT_EQ(store.Find("a"), &store.all()[0]);
  EXPECT_EQ(store.Find("A"), nullptr);
}

TEST(ParameterStoreTest, AllocatesZeroedGradientsOnce) {
  ParameterStore store({{"a", {3}}, {"b", {4}}});
  EXPECT_FALSE(store.grads().defined());
  store.EnableGradients();
  store.Find("b")->grad.fill_(1.0);
  store.EnableGradients();
  EXPECT_EQ(store.grads().sum().item<double>(), 4.0);
  EXPECT_EQ(store.grads()[16].item<double>(), 1.0);
}

TEST(ParameterStoreTest, RefusesANameTwice) {
  EXPECT_THROW(ParameterStore({{"a", {3}}, {"a", {4}}}), c10::Error);
}

}  // namespace
}  // namespace rft
