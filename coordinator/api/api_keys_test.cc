#include "coordinator/api/api_keys.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <fstream>

#include "tests/support/status_matchers.h"

namespace fulger {
namespace {

using absl::StatusCode;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

TEST(ApiKeysTest, OneKeyALine) {
  ASSERT_OK_AND_ASSIGN(const auto keys,
                       ParseApiKeys("# clients\n\n alice  s1\nbob s2 max-requests=3 max-tokens=9000\r\n"));
  ASSERT_EQ(keys.size(), 2u);
  EXPECT_EQ(keys[0].client.name, "alice");
  EXPECT_EQ(keys[0].secret, "s1");
  EXPECT_EQ(keys[0].client.max_requests, 0);
  EXPECT_EQ(keys[1].client.max_requests, 3);
  EXPECT_EQ(keys[1].client.max_tokens, 9000);
}

TEST(ApiKeysTest, ErrorsNameTheLineAndNoSecret) {
  for (const auto& [text, words] :
       std::vector<std::pair<std::string, std::string>>{{"a k3y\nb\n", "line 2: expected NAME SECRET"},
                                                        {"a k3y max-requests=0", "line 1: max-requests"},
                                                        {"a k3y max-requests=1x", "line 1: max-requests"},
                                                        {"a k3y other=1", "line 1: expected NAME SECRET"},
                                                        {"a k3y\nb k3y", "line 2: b has the secret of a"}}) {
    EXPECT_THAT(ParseApiKeys(text).status(),
                StatusIs(StatusCode::kInvalidArgument, AllOf(HasSubstr(words), Not(HasSubstr("k3y")))))
        << text;
  }
}

TEST(ApiKeysTest, ReloadsAndKeepsWhatWasOnAnError) {
  const std::string path = testing::TempDir() + "/keys";
  const auto write = [&](const std::string& text) { std::ofstream(path) << text; };
  write("alice s1 max-requests=2\n");
  ApiKeyRing ring({"fixed"}, path);
  ASSERT_OK(ring.Reload());
  ASSERT_OK_AND_ASSIGN(const ClientQuota alice, ring.Check("Bearer s1"));
  EXPECT_EQ(alice.name, "alice");
  EXPECT_EQ(alice.max_requests, 2);
  ASSERT_OK_AND_ASSIGN(const ClientQuota nameless, ring.Check("Bearer fixed"));
  EXPECT_EQ(nameless.name, "");
  for (const char* wrong : {"", "Bearer ", "Bearer s", "Bearer s12", "Basic s1"}) {
    EXPECT_THAT(ring.Check(wrong).status(), StatusIs(StatusCode::kUnauthenticated, HasSubstr("API key")))
        << wrong;
  }
  write("alice s2\n");
  EXPECT_OK(ring.Check("Bearer s1").status());
  ASSERT_OK(ring.Reload());
  EXPECT_FALSE(ring.Check("Bearer s1").ok());
  EXPECT_OK(ring.Check("Bearer s2").status());
  write("alice\n");
  EXPECT_THAT(ring.Reload(), StatusIs(StatusCode::kInvalidArgument, HasSubstr("keys: line 1")));
  write("");
  EXPECT_THAT(ring.Reload(), StatusIs(StatusCode::kInvalidArgument, HasSubstr("no keys")));
  std::remove(path.c_str());
  EXPECT_FALSE(ring.Reload().ok());
  EXPECT_OK(ring.Check("Bearer s2").status());
}

TEST(ApiKeysTest, WithoutKeysAllMayEnter) {
  ApiKeyRing ring({}, "");
  ASSERT_OK(ring.Reload());
  EXPECT_OK(ring.Check("").status());
}

}  // namespace
}  // namespace fulger
