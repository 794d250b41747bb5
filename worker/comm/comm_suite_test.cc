#include "worker/comm/comm_suite.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <list>
#include <mutex>
#include <numeric>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/status_matchers.h"

namespace fulger {
namespace {

using absl::StatusCode;
using testing::AllOf;
using testing::HasSubstr;

const std::vector<int64_t> kSizes = {0, 1, 3, 1000, 1'000'000};

std::vector<int> AllRanks(const Fabric& fabric) {
  std::vector<int> ranks(static_cast<size_t>(fabric.size()));
  std::iota(ranks.begin(), ranks.end(), 0);
  return ranks;
}

MutTensorView View(std::vector<float>& values) {
  return MutTensorView(values.data(), DType::kF32, {static_cast<int64_t>(values.size())});
}
MutTensorView View(std::vector<uint8_t>& values) {
  return MutTensorView(values.data(), DType::kU8, {static_cast<int64_t>(values.size())});
}

// Memory that stays until the program ends: after a failed operation MPI may still read it (mpi_fabric.h).
std::vector<float>& Lasting(size_t count) {
  static std::mutex mu;
  static std::list<std::vector<float>> all;
  std::lock_guard lock(mu);
  return all.emplace_back(count);
}

// Small integers: every sum of them is exact in float, in any order.
float IntegerAt(int rank, int64_t i) { return static_cast<float>((rank + 1) * (i % 97 - 48)); }

std::vector<float> Integers(int rank, int64_t count) {
  std::vector<float> values(static_cast<size_t>(count));
  for (int64_t i = 0; i < count; ++i) values[static_cast<size_t>(i)] = IntegerAt(rank, i);
  return values;
}

// Values of mixed sign and size, whose sum depends on the order.
std::vector<float> Uneven(int rank, int64_t count) {
  std::vector<float> values(static_cast<size_t>(count));
  uint32_t state = 12345u + static_cast<uint32_t>(rank) * 7919u;
  for (float& v : values) {
    state = state * 1664525u + 1013904223u;
    v = (static_cast<float>(state >> 8) / 8388608.0f - 1.0f) * (state % 16 == 0 ? 1e6f : 1.0f);
  }
  return values;
}

TEST_P(CommSuite, AllReduceIsTheSum) {
  Run(kPatient, [](Fabric& fabric, Stream& stream) {
    ASSERT_OK_AND_ASSIGN(auto group, fabric.Group(AllRanks(fabric), "all"));
    const int n = group->size();
    for (const int64_t count : kSizes) {
      std::vector<float> values = Integers(group->rank(), count);
      ASSERT_OK(group->AllReduceSum(stream, View(values)));
      // 1 + 2 + ... + n times what rank 0 has.
      std::vector<float> expected = Integers(0, count);
      for (float& v : expected) v *= static_cast<float>(n * (n + 1) / 2);
      EXPECT_TRUE(values == expected) << count << " values";
    }
  });
}

// The bits are those of ((x0 + x1) + x2) + ..., on every rank and every fabric.
TEST_P(CommSuite, AllReduceSumsInRankOrderToTheBit) {
  if (!Traits().sums_in_rank_order) GTEST_SKIP() << "this fabric does not promise it";
  Run(kPatient, [](Fabric& fabric, Stream& stream) {
    ASSERT_OK_AND_ASSIGN(auto group, fabric.Group(AllRanks(fabric), "all"));
    for (const int64_t count : {1, 7, 6144, 16384, 16385, 40'003}) {
      std::vector<float> values = Uneven(group->rank(), count);
      ASSERT_OK(group->AllReduceSum(stream, View(values)));
      std::vector<float> expected = Uneven(0, count);
      for (int r = 1; r < group->size(); ++r) {
        const std::vector<float> other = Uneven(r, count);
        for (size_t i = 0; i < expected.size(); ++i) expected[i] += other[i];
      }
      int64_t different = 0;
      for (size_t i = 0; i < expected.size(); ++i) {
        different += std::bit_cast<uint32_t>(values[i]) != std::bit_cast<uint32_t>(expected[i]);
      }
      EXPECT_EQ(different, 0) << "of " << count << " values";
    }
  });
}

TEST_P(CommSuite, AllGatherConcatenatesInRankOrder) {
  Run(kPatient, [](Fabric& fabric, Stream& stream) {
    ASSERT_OK_AND_ASSIGN(auto group, fabric.Group(AllRanks(fabric), "all"));
    const int64_t large = 400'000 / group->size();
    for (const int64_t count : {int64_t{0}, int64_t{1}, int64_t{3}, int64_t{1000}, large}) {
      std::vector<float> in = Integers(group->rank(), count);
      std::vector<float> out(static_cast<size_t>(count * group->size()), -1.0f);
      ASSERT_OK(group->AllGather(stream, View(in), View(out)));
      std::vector<float> expected;
      for (int r = 0; r < group->size(); ++r) {
        const std::vector<float> part = Integers(r, count);
        expected.insert(expected.end(), part.begin(), part.end());
      }
      EXPECT_TRUE(out == expected) << count << " values per rank";
    }
  });
}

TEST_P(CommSuite, AllGatherInPlace) {
  Run(kPatient, [](Fabric& fabric, Stream& stream) {
    ASSERT_OK_AND_ASSIGN(auto group, fabric.Group(AllRanks(fabric), "all"));
    for (const int64_t count : {int64_t{5}, int64_t{400'000} / group->size()}) {
      std::vector<float> out(static_cast<size_t>(count * group->size()), -1.0f);
      const MutTensorView own = View(out).Rows(group->rank() * count, count);
      std::fill_n(own.mut_data<float>(), count, static_cast<float>(group->rank()));
      ASSERT_OK(group->AllGather(stream, own, View(out)));
      size_t wrong = 0;
      for (size_t i = 0; i < out.size(); ++i) {
        wrong += out[i] != static_cast<float>(i / static_cast<size_t>(count));
      }
      EXPECT_EQ(wrong, 0u) << count << " values per rank";
    }
  });
}

TEST_P(CommSuite, BroadcastFromEveryRoot) {
  Run(kPatient, [](Fabric& fabric, Stream& stream) {
    ASSERT_OK_AND_ASSIGN(auto group, fabric.Group(AllRanks(fabric), "all"));
    const std::vector<int> roots = {0, group->size() - 1, group->size() / 2};
    for (const int root : roots) {
      for (const int64_t count : {0, 1, 1001, 100'003}) {
        const std::vector<float> expected = Integers(root, count);
        std::vector<float> values(expected.size(), -1.0f);
        if (group->rank() == root) values = expected;
        ASSERT_OK(group->Broadcast(stream, View(values), root));
        EXPECT_TRUE(values == expected) << count << " values from " << root;
      }
    }
  });
}

TEST_P(CommSuite, BytesOfAnyType) {
  Run(kPatient, [](Fabric& fabric, Stream& stream) {
    ASSERT_OK_AND_ASSIGN(auto group, fabric.Group(AllRanks(fabric), "all"));
    std::vector<uint8_t> in = {static_cast<uint8_t>(group->rank()), 200, 7};
    std::vector<uint8_t> out(in.size() * static_cast<size_t>(group->size()));
    ASSERT_OK(group->AllGather(stream, View(in), View(out)));
    for (int r = 0; r < group->size(); ++r) {
      EXPECT_EQ(out[static_cast<size_t>(3 * r)], r);
      EXPECT_EQ(out[static_cast<size_t>(3 * r + 1)], 200);
    }
  });
}

// Nobody leaves a barrier before everybody is in it: a message sent before it is there after it, for a group
// operation that follows it.
TEST_P(CommSuite, ManyOperationsInARow) {
  Run(kPatient, [](Fabric& fabric, Stream& stream) {
    ASSERT_OK_AND_ASSIGN(auto group, fabric.Group(AllRanks(fabric), "all"));
    for (int i = 0; i < 50; ++i) {
      std::vector<float> one = {static_cast<float>(i)};
      ASSERT_OK(group->AllReduceSum(stream, View(one)));
      ASSERT_EQ(one[0], static_cast<float>(i * group->size()));
      ASSERT_OK(group->Barrier(stream));
      std::vector<float> root = {group->rank() == i % group->size() ? 42.0f : 0.0f};
      ASSERT_OK(group->Broadcast(stream, View(root), i % group->size()));
      ASSERT_EQ(root[0], 42.0f);
    }
  });
}

// Halves, pairs of neighbours, a group of one and the whole, all alive at once.
TEST_P(CommSuite, SubsetsAndSeveralGroupsAtOnce) {
  Run(kPatient, [](Fabric& fabric, Stream& stream) {
    const int n = fabric.size();
    const int me = fabric.rank();
    ASSERT_OK_AND_ASSIGN(auto all, fabric.Group(AllRanks(fabric), "all"));
    const int self[] = {me};
    ASSERT_OK_AND_ASSIGN(auto alone, fabric.Group(self, "alone " + std::to_string(me)));
    std::vector<int> parity;  // my residue class: not contiguous
    for (int r = me % 2; r < n; r += 2) parity.push_back(r);
    ASSERT_OK_AND_ASSIGN(auto stripe, fabric.Group(parity, "stripe " + std::to_string(me % 2)));
    std::vector<int> half;
    for (int r = 0; r < n; ++r) {
      if ((r < n / 2) == (me < n / 2)) half.push_back(r);
    }
    ASSERT_OK_AND_ASSIGN(auto stage, fabric.Group(half, me < n / 2 ? "first half" : "second half"));
    for (int round = 0; round < 5; ++round) {
      for (Collective* group : {stripe.get(), stage.get(), alone.get(), all.get()}) {
        std::vector<float> values = {static_cast<float>(me), 1.0f};
        ASSERT_OK(group->AllReduceSum(stream, View(values)));
        const std::vector<int> members = group == stripe.get()  ? parity
                                         : group == stage.get() ? half
                                         : group == alone.get() ? std::vector<int>{me}
                                                                : AllRanks(fabric);
        EXPECT_EQ(values[0], static_cast<float>(std::accumulate(members.begin(), members.end(), 0)));
        EXPECT_EQ(values[1], static_cast<float>(group->size()));
        EXPECT_EQ(group->size(), static_cast<int>(members.size()));
        EXPECT_EQ(members[static_cast<size_t>(group->rank())], me);
      }
    }
  });
}

TEST_P(CommSuite, NamesAreUnique) {
  Run(kPatient, [](Fabric& fabric, Stream&) {
    const int self[] = {fabric.rank()};
    const std::string name = "again " + std::to_string(fabric.rank());
    ASSERT_OK_AND_ASSIGN(auto group, fabric.Group(self, name));
    EXPECT_THAT(fabric.Group(self, name).status(), StatusIs(StatusCode::kAlreadyExists, HasSubstr(name)));
    ASSERT_OK_AND_ASSIGN(auto link, fabric.Connect(fabric.rank(), fabric.rank(), name));
    EXPECT_THAT(fabric.Connect(fabric.rank(), fabric.rank(), name).status(),
                StatusIs(StatusCode::kAlreadyExists, HasSubstr(name)));
  });
}

TEST_P(CommSuite, WrongArgumentsAreNamed) {
  Run(kPatient, [](Fabric& fabric, Stream& stream) {
    ASSERT_OK_AND_ASSIGN(auto group, fabric.Group(AllRanks(fabric), "all"));
    std::vector<uint8_t> bytes(8);
    EXPECT_THAT(
        group->AllReduceSum(stream, View(bytes)),
        StatusIs(StatusCode::kInternal, AllOf(HasSubstr("group all: all-reduce"), HasSubstr("[8] U8"))));
    std::vector<float> in(2), out(static_cast<size_t>(2 * group->size() + 1));
    EXPECT_THAT(group->AllGather(stream, View(in), View(out)),
                StatusIs(StatusCode::kInternal, HasSubstr("group all: all-gather")));
    EXPECT_THAT(group->Broadcast(stream, View(in), group->size()),
                StatusIs(StatusCode::kInternal, HasSubstr("root")));
    const int stranger[] = {fabric.size()};
    EXPECT_THAT(fabric.Group(stranger, "odd").status(),
                StatusIs(StatusCode::kInvalidArgument, HasSubstr("group odd")));
    EXPECT_THAT(fabric.Connect(fabric.rank(), fabric.size(), "odd").status(),
                StatusIs(StatusCode::kInvalidArgument, HasSubstr("link odd")));
    // None of these broke the group.
    EXPECT_OK(group->Barrier(stream));
  });
}

TEST_P(CommSuite, LinkToOneselfIsAQueue) {
  Run(kPatient, [](Fabric& fabric, Stream& stream) {
    const int me = fabric.rank();
    ASSERT_OK_AND_ASSIGN(auto link, fabric.Connect(me, me, "self " + std::to_string(me)));
    for (float v : {1.0f, 2.0f, 3.0f}) {
      std::vector<float> value = {v};
      ASSERT_OK(link->Send(stream, View(value)));
      value[0] = -1.0f;  // a copy was sent
    }
    for (float v : {1.0f, 2.0f, 3.0f}) {
      ASSERT_OK_AND_ASSIGN(const bool ready, link->Ready());
      EXPECT_TRUE(ready);
      std::vector<float> value(1);
      ASSERT_OK(link->Recv(stream, View(value)));
      EXPECT_EQ(value[0], v);
    }
    ASSERT_OK_AND_ASSIGN(const bool ready, link->Ready());
    EXPECT_FALSE(ready);
  });
}

// Every rank sends to the next one and to the previous one; many messages of many sizes keep their order.
TEST_P(CommSuite, LinksBothWaysKeepOrder) {
  Run(kPatient, [](Fabric& fabric, Stream& stream) {
    const int n = fabric.size();
    const int me = fabric.rank();
    const int next = (me + 1) % n, previous = (me + n - 1) % n;
    if (n == 1) return;
    const auto name = [](const char* kind, int from, int to) {
      return std::string(kind) + " " + std::to_string(from) + " to " + std::to_string(to);
    };
    ASSERT_OK_AND_ASSIGN(auto ahead, fabric.Connect(me, next, name("up", me, next)));
    ASSERT_OK_AND_ASSIGN(auto behind, fabric.Connect(previous, me, name("up", previous, me)));
    ASSERT_OK_AND_ASSIGN(auto back, fabric.Connect(me, previous, name("down", me, previous)));
    ASSERT_OK_AND_ASSIGN(auto front, fabric.Connect(next, me, name("down", next, me)));
    const auto size_of = [](int i) { return static_cast<int64_t>(i % 3 == 0 ? 30'000 : i % 7); };
    constexpr int kMessages = 40;
    for (int i = 0; i < kMessages; ++i) {
      std::vector<float> up = Integers(me + i, size_of(i));
      std::vector<float> down = Integers(me + 100 + i, size_of(i + 1));
      ASSERT_OK(ahead->Send(stream, View(up)));
      ASSERT_OK(back->Send(stream, View(down)));
    }
    for (int i = 0; i < kMessages; ++i) {
      std::vector<float> up(static_cast<size_t>(size_of(i))), down(static_cast<size_t>(size_of(i + 1)));
      ASSERT_OK(front->Recv(stream, View(down)));
      ASSERT_OK(behind->Recv(stream, View(up)));
      EXPECT_TRUE(up == Integers(previous + i, size_of(i))) << "message " << i;
      EXPECT_TRUE(down == Integers(next + 100 + i, size_of(i + 1))) << "message " << i;
    }
  });
}

// Two stages send each other 64 MB before either receives.
TEST_P(CommSuite, SendsNeverBlock) {
  Run(kPatient, [](Fabric& fabric, Stream& stream) {
    if (fabric.size() == 1) return;
    ASSERT_OK_AND_ASSIGN(auto all, fabric.Group(AllRanks(fabric), "all"));
    const int me = fabric.rank();
    if (me < 2) {
      ASSERT_OK_AND_ASSIGN(auto out, fabric.Connect(me, 1 - me, me == 0 ? "there" : "back"));
      ASSERT_OK_AND_ASSIGN(auto in, fabric.Connect(1 - me, me, me == 0 ? "back" : "there"));
      const size_t count = (fabric.size() == 2 ? 16 : 1) << 20;  // 64 MB; 4 MB where others wait for a core
      std::vector<float> data(count, static_cast<float>(me));
      data.front() = 100.0f;
      data.back() = 200.0f;
      ASSERT_OK(out->Send(stream, View(data)));
      std::fill(data.begin(), data.end(), -1.0f);
      ASSERT_OK(in->Recv(stream, View(data)));
      std::vector<float> expected(count, static_cast<float>(1 - me));
      expected.front() = 100.0f;
      expected.back() = 200.0f;
      EXPECT_TRUE(std::memcmp(data.data(), expected.data(), count * sizeof(float)) == 0);
      // What we sent may still be on its way: the executor's idle loop.
      bool done = false;
      while (!done) {
        ASSERT_OK_AND_ASSIGN(done, fabric.Progress());
      }
    }
    ASSERT_OK(all->Barrier(stream));
  });
}

TEST_P(CommSuite, ReadySeesAMessageWithoutTakingIt) {
  if (!Traits().sees_waiting_messages) GTEST_SKIP() << "this fabric does not promise it";
  Run(kPatient, [](Fabric& fabric, Stream& stream) {
    if (fabric.size() == 1) return;
    ASSERT_OK_AND_ASSIGN(auto all, fabric.Group(AllRanks(fabric), "all"));
    if (fabric.rank() > 1) return;
    ASSERT_OK_AND_ASSIGN(auto link, fabric.Connect(0, 1, "ids"));
    std::vector<float> value = {9.0f};
    if (fabric.rank() == 0) {
      ASSERT_OK(link->Send(stream, View(value)));
      EXPECT_THAT(link->Recv(stream, View(value)), StatusIs(StatusCode::kInternal, HasSubstr("wrong end")));
      return;
    }
    bool ready = false;
    while (!ready) {
      ASSERT_OK_AND_ASSIGN(ready, link->Ready());
    }
    ASSERT_OK_AND_ASSIGN(ready, link->Ready());
    EXPECT_TRUE(ready);
    value[0] = 0.0f;
    ASSERT_OK(link->Recv(stream, View(value)));
    EXPECT_EQ(value[0], 9.0f);
    ASSERT_OK_AND_ASSIGN(ready, link->Ready());
    EXPECT_FALSE(ready);
  });
}

TEST_P(CommSuite, AnotherSizeThanSentIsInternal) {
  if (!Traits().sees_waiting_messages) GTEST_SKIP() << "this fabric does not promise it";
  Run(kBrief, [](Fabric& fabric, Stream& stream) {
    const int from = fabric.size() > 1 ? 1 : 0;
    if (fabric.rank() != from && fabric.rank() != 0) return;
    ASSERT_OK_AND_ASSIGN(auto link, fabric.Connect(from, 0, "hidden states"));
    std::vector<float> data(5);
    if (fabric.rank() == from) ASSERT_OK(link->Send(stream, View(data)));
    if (fabric.rank() != 0) return;
    std::vector<float> other(4);
    EXPECT_THAT(link->Recv(stream, View(other)),
                StatusIs(StatusCode::kInternal, AllOf(HasSubstr("link hidden states"), HasSubstr("16 bytes"),
                                                      HasSubstr("found 20"))));
  });
}

TEST_P(CommSuite, SilentSenderReachesTheDeadline) {
  if (!Traits().names_the_missing_rank) GTEST_SKIP() << "this fabric does not promise it";
  Run(kHasty, [](Fabric& fabric, Stream& stream) {
    if (fabric.size() == 1 || fabric.rank() > 1) return;
    ASSERT_OK_AND_ASSIGN(auto link, fabric.Connect(0, 1, "stage 0 to 1"));
    if (fabric.rank() == 0) return;
    std::vector<float> value(1);
    EXPECT_THAT(link->Recv(stream, View(value)),
                StatusIs(StatusCode::kDeadlineExceeded, AllOf(HasSubstr("link stage 0 to 1: receive"),
                                                              HasSubstr("rank 0"), HasSubstr("150 ms"))));
    // And the fabric is done for.
    EXPECT_THAT(link->Recv(stream, View(value)),
                StatusIs(StatusCode::kDeadlineExceeded, HasSubstr("rank 0")));
  });
}

TEST_P(CommSuite, MissingRankIsNamed) {
  if (!Traits().names_the_missing_rank) GTEST_SKIP() << "this fabric does not promise it";
  Run(kHasty, [](Fabric& fabric, Stream& stream) {
    if (fabric.size() == 1) return;
    const int last = fabric.size() - 1;
    absl::StatusOr<std::unique_ptr<Collective>> group = fabric.Group(AllRanks(fabric), "stage 3");
    // A loaded machine may take longer than the short deadline to bring all ranks together.
    if (!group.ok()) {
      EXPECT_EQ(group.status().code(), StatusCode::kDeadlineExceeded);
      return;
    }
    if (fabric.rank() == last) return;
    std::vector<float>& values = Lasting(10);
    EXPECT_THAT((*group)->AllReduceSum(stream, View(values)),
                StatusIs(StatusCode::kDeadlineExceeded, AllOf(HasSubstr("group stage 3: all-reduce"),
                                                              HasSubstr("rank " + std::to_string(last)))));
    EXPECT_THAT((*group)->Barrier(stream), StatusIs(StatusCode::kDeadlineExceeded, HasSubstr("stage 3")));
  });
}

// Each rank waits for something that never comes, and is woken by its own Abort from another thread.
TEST_P(CommSuite, AbortWakesWaiters) {
  Run(kPatient, [](Fabric& fabric, Stream& stream) {
    const int n = fabric.size();
    const int me = fabric.rank();
    if (n == 1) return;
    const int previous = (me + n - 1) % n, next = (me + 1) % n;
    ASSERT_OK_AND_ASSIGN(auto in, fabric.Connect(previous, me, "to " + std::to_string(me)));
    ASSERT_OK_AND_ASSIGN(auto out, fabric.Connect(me, next, "to " + std::to_string(next)));
    ASSERT_OK_AND_ASSIGN(auto all, fabric.Group(AllRanks(fabric), "all"));
    ASSERT_OK(all->Barrier(stream));
    const auto begin = std::chrono::steady_clock::now();
    // Gives the wait below time to begin; the outcome is the same when it has not.
    std::thread aborter([&] {
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
      fabric.Abort(Unavailable("rank 5 left"));
    });
    std::vector<float> value(1);
    EXPECT_THAT(in->Recv(stream, View(value)),
                StatusIs(StatusCode::kAborted, AllOf(HasSubstr("link to"), HasSubstr("rank 5 left"))));
    aborter.join();
    EXPECT_LT(std::chrono::steady_clock::now() - begin, kPatient.deadline / 2);
    EXPECT_THAT(out->Send(stream, View(value)), StatusIs(StatusCode::kAborted, HasSubstr("rank 5 left")));
    const int self[] = {me};
    EXPECT_THAT(fabric.Group(self, "late " + std::to_string(me)).status(),
                StatusIs(StatusCode::kAborted, HasSubstr("rank 5 left")));
  });
}

TEST_P(CommSuite, AbortWakesACollective) {
  Run(kPatient, [](Fabric& fabric, Stream& stream) {
    if (fabric.size() == 1) return;
    ASSERT_OK_AND_ASSIGN(auto group, fabric.Group(AllRanks(fabric), "stage 0"));
    ASSERT_OK(group->Barrier(stream));
    std::thread aborter([&] {
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
      fabric.Abort(Unavailable("replica is being rebuilt"));
    });
    if (fabric.rank() != 0) {  // rank 0 never comes
      std::vector<float>& values = Lasting(100'000);
      EXPECT_THAT(group->AllReduceSum(stream, View(values)),
                  StatusIs(StatusCode::kAborted,
                           AllOf(HasSubstr("group stage 0: all-reduce"), HasSubstr("being rebuilt"))));
    }
    aborter.join();
  });
}

}  // namespace
}  // namespace fulger
