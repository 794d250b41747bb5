#include "coordinator/cli/tls_trust.h"

namespace fulger {

absl::Status TrustCertificates(const std::string& ca_file, boost::asio::ssl::context* context) {
  boost::system::error_code error;
  context->set_default_verify_paths(error);
  if (error) return Internal("the system's certificates: {}", error.message());
  if (!ca_file.empty()) context->load_verify_file(ca_file, error);
  if (error) return InvalidArgument("certificates to trust: {}: {}", ca_file, error.message());
  context->set_verify_mode(boost::asio::ssl::verify_peer, error);
  if (error) return Internal("TLS: {}", error.message());
  return absl::OkStatus();
}

}  // namespace fulger
