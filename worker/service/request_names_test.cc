#include "worker/service/request_names.h"

#include <gtest/gtest.h>

namespace fulger {
namespace {

TEST(RequestNamesTest, NamesTheRequestsOfAStep) {
  v1::StepPlan plan;
  for (uint64_t id = 1; id <= 6; ++id) {
    plan.add_rows()->set_sequence(id);
    if (id == 6) continue;
    v1::NewSequence* added = plan.add_new_sequences();
    added->set_sequence(id);
    if (id != 2) added->set_request("req-" + std::to_string(id));
  }
  RequestNames names;
  names.Announce(plan);
  EXPECT_EQ(names.Describe(plan), " with the requests req-1, of sequence 2, req-3, req-4 and 2 more");
  EXPECT_EQ(names.Of(5), "req-5");
  EXPECT_EQ(names.Of(6), "of sequence 6");  // never announced
  EXPECT_EQ(names.Describe(v1::StepPlan()), "");

  v1::StepPlan next;
  next.add_retired(5);
  names.Announce(next);
  names.Retire(next);
  EXPECT_EQ(names.Of(5), "of sequence 5");
  EXPECT_EQ(names.Of(4), "req-4");
}

}  // namespace
}  // namespace fulger
