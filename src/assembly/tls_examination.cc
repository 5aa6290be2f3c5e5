#include "assembly/tls_examination.h"

#include "assembly/endpoint.h"

namespace faultline {
namespace {

absl::StatusOr<std::string> ValidUntil(const std::string& directory, TlsRole role) {
  TlsOptions options;
  options.role = role;
  options.secrets.directory = directory;
  ASSIGN_OR_RETURN(std::shared_ptr<const TlsContext> context, TlsContext::Make(std::move(options)));
  return context->valid_until();
}

}  // namespace

TlsFacts ExamineTls(const std::string& directory) {
  TlsFacts facts;
  facts.directory = directory.empty() ? FindCertificates() : directory;
  if (!facts.directory.ok()) return facts;
  facts.as_source = ValidUntil(*facts.directory, TlsRole::kSource);
  facts.as_destination = ValidUntil(*facts.directory, TlsRole::kDestination);
  return facts;
}

}  // namespace faultline
