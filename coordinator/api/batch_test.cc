// Uploads, batch files, the runner and its routes, against a real database and answers that the tests give.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <condition_variable>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <future>
#include <map>
#include <mutex>
#include <nlohmann/json.hpp>
#include <sstream>

#include "coordinator/api/batch_api.h"
#include "coordinator/api/batch_file.h"
#include "coordinator/api/multipart.h"
#include "tests/support/status_matchers.h"

namespace fulger {
namespace {

using nlohmann::json;
using testing::HasSubstr;

TEST(MultipartTest, Parts) {
  const std::string body =
      "--xYz\r\nContent-Disposition: form-data; name=\"purpose\"\r\n\r\nbatch\r\n"
      "--xYz\r\ncontent-disposition: form-data; name=\"file\"; filename=\"a \\\"b\\\".jsonl\"\r\n"
      "Content-Type: application/octet-stream\r\n\r\nline 1\r\n--xY\r\nline 2\n\r\n--xYz--\r\n";
  ASSERT_OK_AND_ASSIGN(const auto parts, ParseMultipart("multipart/form-data; boundary=xYz", body));
  ASSERT_EQ(parts.size(), 2u);
  EXPECT_EQ(parts[0].name, "purpose");
  EXPECT_EQ(parts[0].content, "batch");
  EXPECT_EQ(parts[1].filename, "a \"b\".jsonl");
  EXPECT_EQ(parts[1].content, "line 1\r\n--xY\r\nline 2\n");
  ASSERT_OK_AND_ASSIGN(const auto quoted, ParseMultipart("multipart/form-data; boundary=\"xYz\"", body));
  EXPECT_EQ(quoted.size(), 2u);
  ASSERT_OK_AND_ASSIGN(const auto empty,
                       ParseMultipart("multipart/form-data; boundary=b", "--b\r\n\r\n\r\n--b--"));
  EXPECT_EQ(empty.at(0).content, "");
  for (size_t cut = 0; cut + 2 < body.size(); ++cut) {  // whatever is missing: an error, no more
    const auto cut_short = ParseMultipart("multipart/form-data; boundary=xYz", body.substr(0, cut));
    EXPECT_TRUE(!cut_short.ok() || cut > body.size() - 6) << cut;
  }
  EXPECT_FALSE(ParseMultipart("application/json", body).ok());
  EXPECT_FALSE(ParseMultipart("multipart/form-data", body).ok());
  EXPECT_FALSE(ParseMultipart("multipart/form-data; xboundary=xYz", body).ok());
}

std::string Line(const std::string& id, const std::string& prompt = "p") {
  return json{{"custom_id", id},
              {"method", "POST"},
              {"url", "/v1/completions"},
              {"body", {{"prompt", prompt}}}}
             .dump() +
         "\n";
}

TEST(BatchFileTest, LinesAndErrors) {
  const BatchInput good = ParseBatchFile(Line("a") + "\n  \r\n" + Line("b"), "/v1/completions");
  EXPECT_EQ(good.errors, "");
  ASSERT_EQ(good.lines.size(), 2u);
  EXPECT_EQ(good.lines[1].number, 4);
  EXPECT_EQ(good.lines[1].custom_id, "b");
  EXPECT_EQ(good.lines[1].body, R"({"prompt":"p"})");
  const BatchInput bad = ParseBatchFile(
      Line("a") + Line("a") + "{\n" + R"({"custom_id":"c","method":"GET"})" + "\n" +
          R"({"custom_id":"d","method":"POST","url":"/v1/completions","body":{"stream":true}})" + "\n[]\n",
      "/v1/completions");
  EXPECT_TRUE(bad.lines.empty());
  const json errors = json::parse(bad.errors);
  ASSERT_EQ(errors.size(), 5u) << errors;
  EXPECT_EQ(errors[0]["code"], "duplicate_custom_id");
  EXPECT_EQ(errors[0]["line"], 2);
  EXPECT_EQ(errors[2]["param"], "method");
  EXPECT_EQ(errors[3]["param"], "body.stream");
  EXPECT_THAT(ParseBatchFile("\n", "/v1/completions").errors, HasSubstr("no requests"));
  EXPECT_THAT(ParseBatchFile(Line("a"), "/v1/chat/completions").errors, HasSubstr("batch's endpoint"));
}

// A client without a socket.
class Answer final : public HttpResponder {
 public:
  explicit Answer(std::shared_ptr<std::promise<HttpResponse>> promise) : promise_(std::move(promise)) {}
  void Send(HttpResponse response) override { promise_->set_value(std::move(response)); }
  void Begin(int, std::string_view, const HttpHeaders&) override {}
  bool Write(std::string_view) override { return false; }
  void End() override {}
  void OnGone(std::function<void()>) override {}

 private:
  std::shared_ptr<std::promise<HttpResponse>> promise_;
};

class BatchApiTest : public testing::Test {
 protected:
  struct Asked {
    std::string endpoint, body;
    std::shared_ptr<HttpResponder> responder;
  };
  void SetUp() override {
    path_ =
        testing::TempDir() + "fulger_jobs_" + testing::UnitTest::GetInstance()->current_test_info()->name();
    Remove();
    Open();
  }
  void TearDown() override {
    api_.reset();
    store_.reset();
    Remove();
  }
  void Remove() {
    for (const char* suffix : {"", "-wal", "-shm"}) std::filesystem::remove(path_ + suffix);
  }
  void Open(int64_t now = 0) {
    auto store = JobStore::Open(path_);
    ASSERT_OK(store.status());
    store_ = *std::move(store);
    BatchRunner::Options options{.concurrency = 3, .now = {}};
    if (now > 0) options.now = [now] { return now; };
    api_ = std::make_unique<BatchApi>(
        keys_, store_.get(),
        [this](const std::string& endpoint, std::string body, std::shared_ptr<HttpResponder> responder) {
          std::lock_guard lock(mu_);
          asked_.push_back({endpoint, std::move(body), std::move(responder)});
          changed_.notify_all();
        },
        options);
    router_ = Router();
    api_->Register(&router_);
  }
  HttpResponse Call(const std::string& method, const std::string& target, const std::string& body = "",
                    HttpHeaders headers = {}) {
    auto promise = std::make_shared<std::promise<HttpResponse>>();
    auto request = std::make_shared<HttpRequest>();
    request->method = method;
    request->path = target.substr(0, target.find('?'));
    if (request->path.size() < target.size()) request->query = target.substr(request->path.size() + 1);
    request->headers = std::move(headers);
    request->body = body;
    router_.Handle(std::move(request), std::make_shared<Answer>(promise));
    return promise->get_future().get();
  }
  std::string Upload(const std::string& content, const std::string& key = "") {
    const HttpResponse response =
        Call("POST", "/v1/files",
             "--b\r\nContent-Disposition: form-data; "
             "name=purpose\r\n\r\nbatch\r\n--b\r\nContent-Disposition: form-data; "
             "name=file; filename=in.jsonl\r\n\r\n" +
                 content + "\r\n--b--",
             {{"Content-Type", "multipart/form-data; boundary=b"}, {"Authorization", "Bearer " + key}});
    EXPECT_EQ(response.status, 200) << response.body;
    const json file = json::parse(response.body);
    EXPECT_EQ(file["bytes"], content.size());
    return file["id"];
  }
  std::string Create(const std::string& file) {
    const HttpResponse response = Call("POST", "/v1/batches",
                                       json{{"input_file_id", file},
                                            {"endpoint", "/v1/completions"},
                                            {"completion_window", "24h"},
                                            {"metadata", {{"k", "v"}}}}
                                           .dump());
    EXPECT_EQ(response.status, 200) << response.body;
    return json::parse(response.body)["id"];
  }
  json Show(const std::string& batch) { return json::parse(Call("GET", "/v1/batches/" + batch).body); }
  json WaitFor(const std::string& batch, const std::string& status) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    json shown = Show(batch);
    while (shown["status"] != status && std::chrono::steady_clock::now() < deadline) shown = Show(batch);
    EXPECT_EQ(shown["status"], status) << shown;
    return shown;
  }
  // The next line to be answered.
  Asked Next() {
    std::unique_lock lock(mu_);
    const bool came =
        changed_.wait_for(lock, std::chrono::seconds(20), [&] { return taken_ < asked_.size(); });
    EXPECT_TRUE(came);
    return came ? std::move(asked_[taken_++]) : Asked{};
  }
  static void Reply(const Asked& asked, int status, const std::string& body = R"({"x":1})") {
    HttpResponse response;
    response.status = status;
    response.body = body;
    response.headers = {{"x-request-id", "r"}, {"Retry-After", "1"}};
    asked.responder->Send(std::move(response));
  }
  std::vector<json> Lines(const std::string& file) {
    std::vector<json> lines;
    std::istringstream text(Call("GET", "/v1/files/" + file + "/content").body);
    for (std::string line; std::getline(text, line);) lines.push_back(json::parse(line));
    return lines;
  }

  std::string path_;
  const ApiKeyRing* keys_ = nullptr;
  std::mutex mu_;
  std::condition_variable changed_;
  std::vector<Asked> asked_;
  size_t taken_ = 0;
  std::unique_ptr<JobStore> store_;
  std::unique_ptr<BatchApi> api_;
  Router router_;
};

TEST_F(BatchApiTest, ABatchFromUploadToResults) {
  std::string content;
  for (int i = 0; i < 7; ++i) content += Line("c" + std::to_string(i), std::to_string(i));
  const std::string batch = Create(Upload(content));
  EXPECT_EQ(Show(batch)["metadata"]["k"], "v");
  for (int i = 0; i < 7; ++i) {
    const Asked asked = Next();
    EXPECT_EQ(asked.endpoint, "/v1/completions");
    // One is refused for now and comes again, one fails for good.
    if (asked.body == R"({"prompt":"2"})") {
      Reply(asked, 503);
    } else {
      Reply(asked, asked.body == R"({"prompt":"4"})" ? 400 : 200, asked.body);
    }
  }
  const Asked again = Next();
  EXPECT_EQ(again.body, R"({"prompt":"2"})");
  Reply(again, 200, again.body);
  const json done = WaitFor(batch, "completed");
  EXPECT_EQ(done["request_counts"], (json{{"total", 7}, {"completed", 6}, {"failed", 1}}));
  const std::vector<json> output = Lines(done["output_file_id"]), errors = Lines(done["error_file_id"]);
  ASSERT_EQ(output.size(), 6u);
  EXPECT_EQ(output[2]["custom_id"], "c2");
  EXPECT_EQ(output[2]["response"]["body"], (json{{"prompt", "2"}}));
  EXPECT_EQ(output[2]["response"]["status_code"], 200);
  EXPECT_EQ(output[2]["response"]["request_id"], "r");
  ASSERT_EQ(errors.size(), 1u);
  EXPECT_EQ(errors[0]["custom_id"], "c4");
}

// What was answered before the end stays, what was under way runs again: each line once in the results.
TEST_F(BatchApiTest, GoesOnAfterARestart) {
  std::string content;
  for (int i = 0; i < 6; ++i) content += Line("c" + std::to_string(i), std::to_string(i));
  const std::string batch = Create(Upload(content));
  Reply(Next(), 200, R"({"run":1})");
  Reply(Next(), 200, R"({"run":1})");
  while (Show(batch)["request_counts"]["completed"] != 2) {
  }
  api_.reset();
  store_.reset();
  {
    std::lock_guard lock(mu_);
    for (size_t i = taken_; i < asked_.size(); ++i) Reply(asked_[i], 200);  // too late: nobody listens
    taken_ = asked_.size();
  }
  Open();
  for (int i = 0; i < 4; ++i) Reply(Next(), 200, R"({"run":2})");
  const json done = WaitFor(batch, "completed");
  const std::vector<json> output = Lines(done["output_file_id"]);
  std::map<std::string, int> runs;
  for (const json& line : output) runs[line["custom_id"]] += line["response"]["body"]["run"].get<int>();
  EXPECT_EQ(output.size(), 6u);
  EXPECT_EQ(runs.size(), 6u);
  EXPECT_EQ(std::ranges::count_if(runs, [](const auto& run) { return run.second == 1; }), 2);
}

// As when the job's end is near: what runs may end, what is refused for now and what has not begun stays
// open.
TEST_F(BatchApiTest, PausedItTakesResultsAndBeginsNothing) {
  std::string content;
  for (int i = 0; i < 6; ++i) content += Line("c" + std::to_string(i), std::to_string(i));
  const std::string batch = Create(Upload(content));
  std::vector<Asked> under_way;
  for (int i = 0; i < 3; ++i) under_way.push_back(Next());
  api_->Pause();
  Reply(under_way[0], 200, R"({"run":1})");
  while (Show(batch)["request_counts"]["completed"] != 1) {
  }
  Reply(under_way[1], 503);
  Reply(under_way[2], 200, R"({"run":1})");
  api_->Stop();
  EXPECT_EQ(Show(batch)["request_counts"]["completed"], 2);
  {
    std::lock_guard lock(mu_);
    EXPECT_EQ(asked_.size(), 3u);
  }
  api_.reset();
  store_.reset();
  Open();
  for (int i = 0; i < 4; ++i) Reply(Next(), 200, R"({"run":2})");
  EXPECT_EQ(Lines(WaitFor(batch, "completed")["output_file_id"]).size(), 6u);
}

TEST_F(BatchApiTest, CancelKeepsWhatIsDone) {
  const std::string batch = Create(Upload(Line("a") + Line("b") + Line("c") + Line("d") + Line("e")));
  std::vector<Asked> under_way;
  for (int i = 0; i < 3; ++i) under_way.push_back(Next());
  EXPECT_EQ(json::parse(Call("POST", "/v1/batches/" + batch + "/cancel").body)["status"], "cancelling");
  for (const Asked& asked : under_way) Reply(asked, 200);
  const json done = WaitFor(batch, "cancelled");
  EXPECT_EQ(Lines(done["output_file_id"]).size(), 3u);
  EXPECT_TRUE(done["cancelled_at"].is_number());
  const HttpResponse again = Call("POST", "/v1/batches/" + batch + "/cancel");
  EXPECT_EQ(again.status, 400);
  EXPECT_THAT(again.body, HasSubstr("cannot be cancelled"));
}

TEST_F(BatchApiTest, ExpiryEndsWhatIsLeft) {
  const std::string batch = Create(Upload(Line("a") + Line("b")));
  Next();
  Next();
  api_.reset();
  store_.reset();
  Open(std::time(nullptr) + 25 * 3600);
  const json done = WaitFor(batch, "expired");
  const std::vector<json> errors = Lines(done["error_file_id"]);
  ASSERT_EQ(errors.size(), 2u);
  EXPECT_EQ(errors[0]["error"]["code"], "batch_expired");
}

TEST_F(BatchApiTest, BadFilesFailWithTheirLines) {
  const json failed = Show(Create(Upload("{}\n" + Line("a"))));
  EXPECT_EQ(failed["status"], "failed");
  EXPECT_EQ(failed["errors"]["data"][0]["line"], 1);
  EXPECT_EQ(failed["errors"]["data"][0]["param"], "custom_id");
}

TEST_F(BatchApiTest, ListsFilesAndErrors) {
  std::vector<std::string> ids;
  for (int i = 0; i < 3; ++i) ids.push_back(Upload(Line("a")));
  json list = json::parse(Call("GET", "/v1/files?limit=2").body);
  EXPECT_EQ(list["data"].size(), 2u);
  EXPECT_EQ(list["data"][0]["id"], ids[2]);
  EXPECT_EQ(list["has_more"], true);
  list = json::parse(Call("GET", "/v1/files?limit=2&after=" + ids[1]).body);
  EXPECT_EQ(list["last_id"], ids[0]);
  EXPECT_EQ(list["has_more"], false);
  EXPECT_EQ(json::parse(Call("GET", "/v1/files/" + ids[0]).body)["filename"], "in.jsonl");
  EXPECT_EQ(json::parse(Call("DELETE", "/v1/files/" + ids[0]).body)["deleted"], true);
  EXPECT_EQ(Call("GET", "/v1/files/" + ids[0]).status, 404);
  EXPECT_EQ(Call("DELETE", "/v1/files/" + ids[0]).status, 404);
  EXPECT_EQ(Call("GET", "/v1/batches/none").status, 404);
  EXPECT_EQ(Call("POST", "/v1/batches/x").status, 404);
  EXPECT_EQ(Call("GET", "/v1/batches?limit=0").status, 400);
  EXPECT_EQ(json::parse(Call("GET", "/v1/batches").body)["data"].size(), 0u);
  for (const auto& [body, field] : std::vector<std::pair<json, std::string>>{
           {{{"endpoint", "/v1/completions"}}, "input_file_id"},
           {{{"input_file_id", ids[1]}, {"endpoint", "/v1/embeddings"}}, "endpoint"},
           {{{"input_file_id", ids[1]}, {"endpoint", "/v1/completions"}, {"completion_window", "1h"}},
            "completion_window"},
           {{{"input_file_id", "none"}, {"endpoint", "/v1/completions"}}, "input_file_id"}}) {
    const HttpResponse refused = Call("POST", "/v1/batches", body.dump());
    EXPECT_GE(refused.status, 400);
    EXPECT_EQ(json::parse(refused.body)["error"]["param"], field);
  }
  EXPECT_EQ(Call("POST", "/v1/files", "x", {{"Content-Type", "text/plain"}}).status, 400);
}

TEST_F(BatchApiTest, EachClientSeesItsOwn) {
  const std::string keys_path = path_ + ".keys";
  std::ofstream(keys_path) << "alice a1\nbob b1\n";
  ApiKeyRing keys({}, keys_path);
  ASSERT_OK(keys.Reload());
  std::filesystem::remove(keys_path);
  keys_ = &keys;
  api_.reset();
  store_.reset();
  Open();
  const std::string file = Upload(Line("a"), "a1");
  EXPECT_EQ(Call("GET", "/v1/files/" + file, "", {{"Authorization", "Bearer a1"}}).status, 200);
  EXPECT_EQ(Call("GET", "/v1/files/" + file, "", {{"Authorization", "Bearer b1"}}).status, 404);
  EXPECT_EQ(Call("GET", "/v1/files/" + file).status, 401);
  api_.reset();
}

}  // namespace
}  // namespace fulger
