// Whose certificates a client of ours believes.
#pragma once

#include <boost/asio/ssl/context.hpp>
#include <string>

#include "base/status.h"

namespace fulger {

// The system's (or those that SSL_CERT_FILE names), and those of `ca_file` if it is not empty; the other side
// has to show one of them. INVALID_ARGUMENT where the file is none.
absl::Status TrustCertificates(const std::string& ca_file, boost::asio::ssl::context* context);

}  // namespace fulger
