#include "rft/serve/server.h"

#include <algorithm>
#include <utility>

#include <boost/asio/ip/address.hpp>

#include "absl/strings/str_cat.h"
#include "rft/core/status_macros.h"

namespace rft::serve {
namespace {

// Short keys can be guessed; and header values are printable.
constexpr size_t kMinKeyBytes = 8;

absl::Status CheckAccess(const HttpOptions& http, const ServiceOptions& service) {
  for (const std::string& key : service.api_keys) {
    const bool printable =
        std::all_of(key.begin(), key.end(), [](char c) { return c > 32 && c < 127; });
    if (key.size() < kMinKeyBytes || !printable)
      return absl::InvalidArgumentError(absl::StrCat("api_keys: a key must have at least ",
                                                     kMinKeyBytes,
                                                     " printable characters and no blanks"));
  }
  boost::system::error_code error;
  const auto address = boost::asio::ip::make_address(http.host, error);
  if (!error && !address.is_loopback() && service.api_keys.empty())
    return absl::InvalidArgumentError(
        absl::StrCat("host: ", http.host,
                     " can be reached by other machines; configure an API key, or listen on "
                     "127.0.0.1"));
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<Server>> Server::Start(const HttpOptions& http,
                                                      const ServiceOptions& service,
                                                      ServiceParts parts) {
  if (service.model_names.empty())
    return absl::InvalidArgumentError("model_names: at least one is needed");
  RFT_RETURN_IF_ERROR(CheckAccess(http, service));
  std::unique_ptr<Server> server(new Server);
  server->service_ = MakeOpenAiService(service, std::move(parts));
  RFT_ASSIGN_OR_RETURN(server->http_, HttpServer::Start(http, *server->service_));
  return server;
}

}  // namespace rft::serve
