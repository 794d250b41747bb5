// For tests: a certificate of one's own.
#pragma once

#include <openssl/pem.h>
#include <openssl/x509.h>

#include <string>

namespace fulger {

// A key and a self-signed certificate with this common name, as `dir`/key.pem and `dir`/cert.pem. False: not
// written. It ends after `seconds`.
inline bool WriteCertificate(const std::string& dir, const char* name, long seconds = 3600) {
  EVP_PKEY* key = EVP_EC_gen("P-256");
  X509* certificate = X509_new();
  X509_set_version(certificate, 2);
  ASN1_INTEGER_set(X509_get_serialNumber(certificate), 1);
  X509_gmtime_adj(X509_getm_notBefore(certificate), 0);
  X509_gmtime_adj(X509_getm_notAfter(certificate), seconds);
  X509_set_pubkey(certificate, key);
  X509_NAME* subject = X509_get_subject_name(certificate);
  X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC, reinterpret_cast<const unsigned char*>(name), -1,
                             -1, 0);
  X509_set_issuer_name(certificate, subject);
  bool written = X509_sign(certificate, key, EVP_sha256()) > 0;
  for (const bool is_key : {true, false}) {
    BIO* file = BIO_new_file((dir + (is_key ? "/key.pem" : "/cert.pem")).c_str(), "w");
    if (file == nullptr) return false;
    if (is_key) {
      written = written && PEM_write_bio_PrivateKey(file, key, nullptr, nullptr, 0, nullptr, nullptr) > 0;
    } else {
      written = written && PEM_write_bio_X509(file, certificate) > 0;
    }
    BIO_free(file);
  }
  X509_free(certificate);
  EVP_PKEY_free(key);
  return written;
}

}  // namespace fulger
