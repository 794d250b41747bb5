// The page's files as they go over the wire, and how a picture is said to be cut.
#include "coordinator/page/page.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>
#include <string>
#include <utility>

#include "coordinator/api/http_server.h"
#include "coordinator/api/http_test_client.h"
#include "coordinator/page/assets.h"
#include "coordinator/page/picture_grid.h"

namespace fulger {
namespace {

using testing::HasSubstr;
using testing::Not;

class PageTest : public testing::Test {
 protected:
  void Serve(PictureGridOptions options = {}) {
    Router router;
    RegisterPage(&router);
    RegisterPictureGrid(&router, std::move(options));
    HttpServerOptions http;
    http.port = 0;
    auto server = HttpServer::Start(http, std::move(router));
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
  }
  TestResponse Get(const std::string& target, const std::string& headers = "") {
    return TestClient(server_->port()).Call("GET", target, "", headers);
  }

  std::unique_ptr<HttpServer> server_;
};

TEST_F(PageTest, EveryFileIsInTheProgramAsItIsOnTheDisk) {
  const std::filesystem::path folder = "coordinator/page/assets";
  std::set<std::string> embedded;
  for (const PageAsset& asset : PageAssets()) {
    embedded.emplace(asset.path);
    std::ifstream file(folder / asset.path, std::ios::binary);
    std::ostringstream bytes;
    bytes << file.rdbuf();
    EXPECT_EQ(bytes.str(), asset.body) << asset.path;
  }
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder)) {
    if (!entry.is_regular_file()) continue;
    const std::string path = std::filesystem::relative(entry.path(), folder).string();
    EXPECT_TRUE(embedded.contains(path)) << path << " is not in coordinator/page/CMakeLists.txt";
  }
}

TEST_F(PageTest, TheRootIsThePage) {
  Serve();
  const TestResponse page = Get("/");
  EXPECT_EQ(page.status, 200);
  EXPECT_EQ(page.Header("Content-Type"), "text/html; charset=utf-8");
  EXPECT_EQ(page.Header("X-Content-Type-Options"), "nosniff");
  EXPECT_THAT(page.body, HasSubstr("<!doctype html>"));
  EXPECT_EQ(Get("/page/js/main.js").Header("Content-Type"), "text/javascript; charset=utf-8");
  EXPECT_EQ(Get("/page/css/theme.css").Header("Content-Type"), "text/css; charset=utf-8");
  EXPECT_EQ(Get("/page/bolt.svg").Header("Content-Type"), "image/svg+xml; charset=utf-8");
  EXPECT_EQ(Get("/page/nowhere.js").status, 404);
  EXPECT_EQ(Get("/page/../api/http.cc").status, 404);
  EXPECT_EQ(TestClient(server_->port()).Call("HEAD", "/").status, 200);
}

TEST_F(PageTest, ThePolicyLetsNothingInAndThePageNeedsNothing) {
  Serve();
  const std::string policy = Get("/").Header("Content-Security-Policy");
  EXPECT_THAT(policy, HasSubstr("default-src 'none'"));
  EXPECT_THAT(policy, Not(HasSubstr("unsafe")));
  for (const PageAsset& asset : PageAssets()) {
    const std::string body(asset.body);
    EXPECT_THAT(body, Not(HasSubstr("innerHTML"))) << asset.path;
    EXPECT_THAT(body, Not(HasSubstr(" style=\""))) << asset.path;
  }
}

TEST_F(PageTest, AKnownFileIsNotSentAgain) {
  Serve();
  TestClient client(server_->port());
  const std::string etag = client.Call("GET", "/").Header("ETag");
  ASSERT_FALSE(etag.empty());
  const TestResponse known = client.Call("GET", "/", "", "If-None-Match: " + etag + "\r\n");
  EXPECT_EQ(known.status, 304);
  EXPECT_THAT(known.head, HasSubstr("304 Not Modified"));
  EXPECT_THAT(known.head, Not(HasSubstr("Content-Length")));
  EXPECT_EQ(known.Header("ETag"), etag);
  EXPECT_EQ(known.Header("Cache-Control"), "no-cache");
  const TestResponse other = client.Call("GET", "/", "", "If-None-Match: \"other\"\r\n");
  EXPECT_EQ(other.status, 200) << "on the connection that had the 304";
  EXPECT_THAT(other.body, HasSubstr("<!doctype html>"));
}

// 1000 x 500 on the released canvases: of those that lose no pixel, 1008 x 672 wastes least. The patch map of
// 72 x 48 is cut to 2 : 1, that is 72 x 36.
TEST_F(PageTest, APictureIsCutAsTheRequestWillBe) {
  Serve({.processor = DefaultImageProcessorConfig()});
  const TestResponse answer = Get("/v1/picture_grid?width=1000&height=500");
  ASSERT_EQ(answer.status, 200) << answer.body;
  const auto grid = nlohmann::json::parse(answer.body);
  EXPECT_EQ(grid["cols"], 3);
  EXPECT_EQ(grid["rows"], 2);
  EXPECT_EQ(grid["tiles"], 7);
  EXPECT_EQ(grid["canvas"], (nlohmann::json{{"width", 1008}, {"height", 672}}));
  EXPECT_EQ(grid["placed"], (nlohmann::json{{"left", 0}, {"top", 84}, {"width", 1008}, {"height", 504}}));
  EXPECT_EQ(grid["kept"], (nlohmann::json{{"left", 0}, {"top", 6}, {"cols", 72}, {"rows", 36}}));
  EXPECT_EQ(grid["tokens"]["thumbnail"], 576);
  EXPECT_EQ(grid["tokens"]["tiles"], 72 * 36);
  EXPECT_EQ(grid["tokens"]["newlines"], 36);
  EXPECT_EQ(grid["tokens"]["total"], 576 + 72 * 36 + 36);
}

TEST_F(PageTest, WrongSizesAreNamed) {
  Serve({.processor = DefaultImageProcessorConfig()});
  const auto message = [&](const std::string& query) {
    const TestResponse answer = Get("/v1/picture_grid" + query);
    EXPECT_EQ(answer.status, 400) << query;
    return answer.body;
  };
  EXPECT_THAT(message(""), HasSubstr("width: expected ?width=W&height=H"));
  EXPECT_THAT(message("?width=10"), HasSubstr(R"("param":"height")"));
  EXPECT_THAT(message("?width=10&height=1x"), HasSubstr("expected a number of pixels, found \\\"1x\\\""));
  EXPECT_THAT(message("?width=0&height=10"), HasSubstr("expected sides from 1"));
  EXPECT_THAT(message("?width=99999999999&height=10"), HasSubstr("expected a number of pixels"));
  EXPECT_THAT(message("?width=1&height=5000"), HasSubstr("too long and thin"));
}

TEST_F(PageTest, KeysAndModelsWithoutEyes) {
  ApiKeyRing keys({"secret"}, "");
  ASSERT_TRUE(keys.Reload().ok());
  Serve({.processor = DefaultImageProcessorConfig(), .keys = &keys});
  EXPECT_EQ(Get("/").status, 200) << "the page itself tells nothing";
  EXPECT_EQ(Get("/v1/picture_grid?width=1&height=1").status, 401);
  EXPECT_EQ(Get("/v1/picture_grid?width=1&height=1", "Authorization: Bearer secret\r\n").status, 200);
  Serve();
  EXPECT_THAT(Get("/v1/picture_grid?width=1&height=1").body, HasSubstr("this model sees no pictures"));
}

}  // namespace
}  // namespace fulger
