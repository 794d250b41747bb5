#include "coordinator/image/data_url.h"

#include "tests/support/status_matchers.h"

namespace fulger {
namespace {

using testing::HasSubstr;

constexpr uint64_t kLimit = 1000;

TEST(Base64, TheVectorsOfTheRfc) {
  EXPECT_EQ(*DecodeBase64(""), "");
  EXPECT_EQ(*DecodeBase64("Zg=="), "f");
  EXPECT_EQ(*DecodeBase64("Zm8="), "fo");
  EXPECT_EQ(*DecodeBase64("Zm9v"), "foo");
  EXPECT_EQ(*DecodeBase64("Zm9vYg=="), "foob");
  EXPECT_EQ(*DecodeBase64("Zm9vYmE="), "fooba");
  EXPECT_EQ(*DecodeBase64("Zm9vYmFy"), "foobar");
  EXPECT_EQ(*DecodeBase64("//79+/8="), "\xff\xfe\xfd\xfb\xff");
}

TEST(Base64, RefusesEverythingElse) {
  constexpr struct {
    std::string_view text, message;
  } kBad[] = {{"Zg", "multiple of 4"},
              {"Zg=", "multiple of 4"},
              {"====", "0x3d at position 0"},
              {"Z===", "0x3d at position 1"},
              {"Zm9v\nYg=", "0x0a at position 4"},
              {"Zm-_", "0x2d at position 2"},
              {"Zg==Zm9v", "0x3d at position 2"},
              {"Zh==", "bits beyond"},
              {"Zm9=", "bits beyond"},
              {"Zm%v", "0x25 at position 2"}};
  for (const auto& bad : kBad) {
    EXPECT_THAT(DecodeBase64(bad.text).status(),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(std::string(bad.message))))
        << bad.text;
  }
}

TEST(DataUrl, TakesBase64Images) {
  ASSERT_OK_AND_ASSIGN(const DataUrl url, ParseDataUrl("data:image/PNG;base64,Zm9v", kLimit));
  EXPECT_EQ(url.media_type, "image/png");
  EXPECT_EQ(url.bytes, "foo");
  ASSERT_OK_AND_ASSIGN(const DataUrl named,
                       ParseDataUrl("DATA:image/jpeg;name=a.jpg;Base64,Zm9vYg==", kLimit));
  EXPECT_EQ(named.media_type, "image/jpeg");
  EXPECT_EQ(named.bytes, "foob");
  EXPECT_TRUE(IsDataUrl("Data:x"));
  EXPECT_FALSE(IsDataUrl("https://example.com/a.png"));
}

TEST(DataUrl, RefusesEverythingElse) {
  constexpr struct {
    std::string_view url, message;
  } kBad[] = {
      {"https://example.com/a.png", "expected data:image/"},
      {"data:image/png;base64", "no comma"},
      {"data:image/png,abc", "found data:image/png"},
      {"data:text/html;base64,Zm9v", "found \"text/html\""},
      {"data:;base64,Zm9v", "found \"\""},
      {"data:image/png;base64,", "no data"},
      {"data:image/png;base64,Zm9", "multiple of 4"},
      {"data:image/p\xffg,abc", "data:image/p?g"},
  };
  for (const auto& bad : kBad) {
    EXPECT_THAT(ParseDataUrl(bad.url, kLimit).status(),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(std::string(bad.message))))
        << bad.url;
  }
}

TEST(DataUrl, TheLimitIsInDecodedBytes) {
  const std::string exact = "data:image/png;base64," + std::string(1332, 'A') + "AA==";
  ASSERT_OK_AND_ASSIGN(const DataUrl url, ParseDataUrl(exact, kLimit));
  EXPECT_EQ(url.bytes.size(), kLimit);
  // One byte more, and not even base64 near the end: refused for its size, so nothing was decoded.
  const std::string over = "data:image/png;base64," + std::string(1332, '!') + "AAA=";
  EXPECT_THAT(ParseDataUrl(over, kLimit).status(),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("1001 bytes, the limit is 1000")));
}

}  // namespace
}  // namespace fulger
