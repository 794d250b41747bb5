#include "worker/service/reach.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "tests/support/status_matchers.h"

namespace fulger {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr auto kDeadline = std::chrono::milliseconds(2000);

// Bound to a free port of 127.0.0.N; listens or not.
class Socket {
 public:
  explicit Socket(int n, bool listens) : fd_(::socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK - 1 + static_cast<uint32_t>(n));
    EXPECT_EQ(::bind(fd_, reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
    if (listens) {
      EXPECT_EQ(::listen(fd_, 4), 0);
    }
    socklen_t size = sizeof(address);
    EXPECT_EQ(::getsockname(fd_, reinterpret_cast<sockaddr*>(&address), &size), 0);
    address_ = fmt::format("127.0.0.{}:{}", n, ntohs(address.sin_port));
  }
  ~Socket() { ::close(fd_); }
  const std::string& address() const { return address_; }

 private:
  int fd_;
  std::string address_;
};

TEST(Reach, SomebodyWhoListens) {
  const Socket there(1, true);
  EXPECT_TRUE(Reach(there.address(), kDeadline).ok());
  EXPECT_TRUE(Reach("unix:/nowhere", kDeadline).ok());
}

TEST(Reach, SaysWhatIsWrong) {
  const Socket deaf(1, false);
  EXPECT_THAT(Reach(deaf.address(), kDeadline),
              StatusIs(absl::StatusCode::kUnavailable,
                       HasSubstr("host 127.0.0.1 is there, but nothing listens on its port")));
  EXPECT_THAT(Reach("no-such-host.invalid:8001", kDeadline),
              StatusIs(absl::StatusCode::kNotFound,
                       HasSubstr("the name no-such-host.invalid is not known on this host")));
}

TEST(ReachHosts, NamesBothEnds) {
  const Socket own(1, true), near(1, true), far(2, true), deaf(3, false);
  std::vector<std::string> addresses{own.address(), near.address(), far.address()};
  EXPECT_TRUE(ReachHosts(0, addresses, kDeadline).ok());
  addresses.push_back(deaf.address());
  EXPECT_THAT(ReachHosts(0, addresses, kDeadline),
              StatusIs(absl::StatusCode::kUnavailable,
                       AllOf(HasSubstr("rank 0 at 127.0.0.1 cannot reach rank 3 at 127.0.0.3"),
                             HasSubstr("nothing listens"))));
}

TEST(OwnAddressTowards, IsTheOneOnTheWay) {
  EXPECT_EQ(OwnAddressTowards("127.0.0.1:1"), "127.0.0.1");
  EXPECT_EQ(OwnAddressTowards("no-such-host.invalid:1"), "");
}

}  // namespace
}  // namespace fulger
