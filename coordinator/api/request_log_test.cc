#include "coordinator/api/request_log.h"

#include <gtest/gtest.h>

namespace fulger {
namespace {

TEST(RequestLogTest, OneLineWithEverything) {
  EXPECT_EQ(
      ToString({.id = "r-1",
                .answer = "chatcmpl-2",
                .route = "/v1/chat/completions",
                .client = "alice",
                .peer = "127.0.0.1:5",
                .status = "200",
                .finish = "stop,length",
                .stream = true,
                .choices = 2,
                .prompt_tokens = 10,
                .cached_tokens = 8,
                .image_tokens = 4,
                .completion_tokens = 6,
                .picture = 0.25,
                .queue = 0.5,
                .prefill = 1,
                .decode = 2,
                .total = 4}),
      "request id=r-1 answer=chatcmpl-2 route=/v1/chat/completions client=alice peer=127.0.0.1:5 status=200 "
      "finish=stop,length stream=true choices=2 prompt=10 cached=8 image=4 completion=6 picture=0.2500 "
      "queue=0.5000 prefill=1.0000 decode=2.0000 total=4.0000");
}

// Nothing that a client chose can look like another key, or another line.
TEST(RequestLogTest, ValuesAreQuotedWhereTheyMustBe) {
  const std::string line =
      ToString({.id = "a=b", .client = "two words", .error = "bad\nrequest id=x \"y\" \xff"});
  EXPECT_TRUE(line.starts_with(R"(request id="a=b" answer=- route=- client="two words" peer=- status=- )"))
      << line;
  EXPECT_TRUE(line.ends_with(R"(error="bad\nrequest id=x \"y\" )"
                             "\xef\xbf\xbd\""))
      << line;
  EXPECT_EQ(line.find('\n'), std::string::npos);
}

}  // namespace
}  // namespace fulger
