// HTTPS with a certificate made here, taken anew while the server runs. OpenSSL's own client is the peer.
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include <ctime>
#include <filesystem>
#include <fstream>
#include <future>

#include "coordinator/api/http_server.h"
#include "coordinator/api/http_test_client.h"
#include "coordinator/api/tls_test_util.h"
#include "tests/support/status_matchers.h"

namespace fulger {
namespace {

using ::testing::HasSubstr;

// One request over TLS; the server's common name and its answer's first `bytes`.
struct Answer {
  std::string name, text;
};
Answer Ask(uint16_t port, const std::string& request, const std::string& until) {
  Answer answer;
  SSL_CTX* context = SSL_CTX_new(TLS_client_method());
  BIO* bio = BIO_new_ssl_connect(context);
  BIO_set_conn_hostname(bio, ("127.0.0.1:" + std::to_string(port)).c_str());
  if (BIO_do_connect(bio) > 0 && BIO_do_handshake(bio) > 0) {
    SSL* ssl = nullptr;
    BIO_get_ssl(bio, &ssl);
    X509* peer = SSL_get1_peer_certificate(ssl);
    char name[100] = "";
    X509_NAME_get_text_by_NID(X509_get_subject_name(peer), NID_commonName, name, sizeof(name));
    answer.name = name;
    X509_free(peer);
    for (size_t sent = 0; sent < request.size();) {
      const int n = BIO_write(bio, request.data() + sent, static_cast<int>(request.size() - sent));
      if (n <= 0) break;
      sent += static_cast<size_t>(n);
    }
    char bytes[16384];
    while (answer.text.find(until) == std::string::npos) {
      const int n = BIO_read(bio, bytes, sizeof(bytes));
      if (n <= 0) break;
      answer.text.append(bytes, static_cast<size_t>(n));
    }
  }
  BIO_free_all(bio);
  SSL_CTX_free(context);
  return answer;
}

class TlsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(WriteCertificate(dir_, "first"));
    Router router;
    router.Add("POST", "/echo",
               [](std::shared_ptr<const HttpRequest> request, std::shared_ptr<HttpResponder> responder) {
                 HttpResponse response;
                 response.body = request->body;
                 responder->Send(std::move(response));
               });
    router.Add("GET", "/wait",
               [this](std::shared_ptr<const HttpRequest>, std::shared_ptr<HttpResponder> responder) {
                 responder->Begin(200, "text/event-stream", {});
                 responder->Write("data: 1\n\n");
                 responder->OnGone([this] { gone_.set_value(); });
                 waiting_ = std::move(responder);
               });
    HttpServerOptions options;
    options.port = 0;
    options.tls_certificate = dir_ + "/cert.pem";
    options.tls_key = dir_ + "/key.pem";
    options.header_timeout = std::chrono::seconds(2);
    auto server = HttpServer::Start(options, std::move(router));
    ASSERT_OK(server.status());
    server_ = *std::move(server);
  }

  const std::string dir_ = ::testing::TempDir();
  std::promise<void> gone_;
  std::shared_ptr<HttpResponder> waiting_;
  std::unique_ptr<HttpServer> server_;
};

TEST_F(TlsTest, LargeBodiesGoBothWays) {
  std::string body;
  for (int i = 0; i < 200'000; ++i) body += std::to_string(i);
  const Answer answer = Ask(server_->port(), TestClient::Request("POST", "/echo", body + "END"), "END");
  EXPECT_EQ(answer.name, "first");
  EXPECT_THAT(answer.text, HasSubstr("HTTP/1.1 200 OK"));
  EXPECT_EQ(answer.text.substr(answer.text.find("\r\n\r\n") + 4), body + "END");
}

TEST_F(TlsTest, AStreamsClientThatLeavesIsNoticed) {
  const Answer answer = Ask(server_->port(), TestClient::Request("GET", "/wait", ""), "data: 1");
  EXPECT_THAT(answer.text, HasSubstr("data: 1"));
  EXPECT_EQ(gone_.get_future().wait_for(std::chrono::seconds(20)), std::future_status::ready);
}

TEST_F(TlsTest, CertificatesAreTakenAnew) {
  ASSERT_TRUE(WriteCertificate(dir_, "second"));
  EXPECT_EQ(Ask(server_->port(), TestClient::Request("POST", "/echo", "a"), "\r\n\r\na").name, "first");
  ASSERT_OK(server_->ReloadTls());
  EXPECT_EQ(Ask(server_->port(), TestClient::Request("POST", "/echo", "a"), "\r\n\r\na").name, "second");
  std::ofstream(dir_ + "/key.pem") << "no key";
  EXPECT_THAT(server_->ReloadTls(), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("key.pem")));
  EXPECT_EQ(Ask(server_->port(), TestClient::Request("POST", "/echo", "a"), "\r\n\r\na").name, "second");
}

TEST_F(TlsTest, SaysWhenTheFirstCertificateOfTheChainEnds) {
  const auto expect_end_in = [this](int64_t seconds, int64_t since) {
    ASSERT_OK(server_->ReloadTls());
    EXPECT_GE(server_->tls_expiry(), since + seconds);
    EXPECT_LE(server_->tls_expiry(), std::time(nullptr) + seconds);
  };
  const std::string other = dir_ + "/other";
  std::filesystem::create_directories(other);
  const int64_t since = std::time(nullptr);
  ASSERT_TRUE(WriteCertificate(dir_, "server", 5000));
  expect_end_in(5000, since);
  ASSERT_TRUE(WriteCertificate(other, "issuer", 4000));
  std::ofstream(dir_ + "/cert.pem", std::ios::app) << std::ifstream(other + "/cert.pem").rdbuf();
  expect_end_in(4000, since);
}

// Whoever does not speak TLS, or says nothing, is closed and keeps nobody else waiting.
TEST_F(TlsTest, PlainAndSilentClientsAreClosed) {
  TestClient plain(server_->port()), silent(server_->port());
  plain.Send(TestClient::Request("POST", "/echo", "a"));
  EXPECT_EQ(Ask(server_->port(), TestClient::Request("POST", "/echo", "a"), "\r\n\r\na").name, "first");
  EXPECT_TRUE(plain.AtEnd());
  EXPECT_TRUE(silent.AtEnd());
}

TEST(TlsOptionsTest, FilesThatAreNone) {
  HttpServerOptions options;
  options.port = 0;
  options.tls_certificate = "/nowhere/cert.pem";
  options.tls_key = "/nowhere/key.pem";
  EXPECT_THAT(HttpServer::Start(options, Router()).status(),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("/nowhere/cert.pem")));
  options.tls_key.clear();
  EXPECT_THAT(HttpServer::Start(options, Router()).status(),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("both")));
}

}  // namespace
}  // namespace fulger
