#include "coordinator/image/expand.h"

#include "tests/support/status_matchers.h"

namespace fulger {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr int32_t kImage = 3;

TEST(Expand, EachPlaceholderBecomesARun) {
  const std::vector<int32_t> ids = {kImage, 7, 8, kImage, kImage, 9};
  const std::vector<int> counts = {2, 1, 4};
  ASSERT_OK_AND_ASSIGN(const ExpandedPrompt out, ExpandPlaceholders(ids, kImage, counts));
  EXPECT_THAT(out.ids, ElementsAre(3, 3, 7, 8, 3, 3, 3, 3, 3, 9));
  EXPECT_THAT(out.runs, ElementsAre(PlaceholderRun{.first = 0, .count = 2, .index = 0},
                                    PlaceholderRun{.first = 4, .count = 1, .index = 1},
                                    PlaceholderRun{.first = 5, .count = 4, .index = 2}));
}

TEST(Expand, TextAloneIsUnchanged) {
  const std::vector<int32_t> ids = {1, 2};
  ASSERT_OK_AND_ASSIGN(const ExpandedPrompt out, ExpandPlaceholders(ids, kImage, {}));
  EXPECT_THAT(out.ids, ElementsAre(1, 2));
  EXPECT_THAT(out.runs, IsEmpty());
}

TEST(Expand, CountsMustAgree) {
  const std::vector<int32_t> ids = {1, kImage, 2};
  const std::vector<int> two = {4, 5};
  EXPECT_THAT(
      ExpandPlaceholders(ids, kImage, two).status(),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("1 image placeholders (token 3) for 2 images")));
  EXPECT_THAT(
      ExpandPlaceholders(ids, kImage, {}).status(),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("1 image placeholders (token 3) for 0 images")));
}

}  // namespace
}  // namespace fulger
