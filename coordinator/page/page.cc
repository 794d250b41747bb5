#include "coordinator/page/page.h"

#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "coordinator/page/assets.h"

namespace fulger {
namespace {

constexpr std::string_view kPrefix = "/page/";

// Nothing but this server's own files, no inline script or style, and no string ever becomes markup: the page
// shows what models and users write, so a mistake in it must not be able to run any of that.
constexpr char kContentSecurityPolicy[] =
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data: "
    "blob:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; "
    "trusted-types 'none'";

const PageAsset* Find(std::string_view path) {
  for (const PageAsset& asset : PageAssets()) {
    if (asset.path == path) return &asset;
  }
  return nullptr;
}

// If-None-Match is a list of tags, perhaps weak ones, or "*".
bool Holds(std::string_view if_none_match, std::string_view etag) {
  return if_none_match == "*" || if_none_match.find(etag) != std::string_view::npos;
}

HttpResponse Answer(const PageAsset& asset, std::string_view if_none_match) {
  HttpResponse response;
  response.headers = {{"ETag", std::string(asset.etag)},
                      {"Cache-Control", "no-cache"},
                      {"Content-Security-Policy", kContentSecurityPolicy},
                      {"X-Content-Type-Options", "nosniff"},
                      {"Referrer-Policy", "no-referrer"},
                      {"Cross-Origin-Opener-Policy", "same-origin"}};
  if (Holds(if_none_match, asset.etag)) {
    response.status = 304;
    response.content_type.clear();
    return response;
  }
  response.content_type = std::string(asset.content_type);
  response.body = std::string(asset.body);
  return response;
}

}  // namespace

void RegisterPage(Router* router) {
  const HttpHandler handler = [](std::shared_ptr<const HttpRequest> request,
                                 std::shared_ptr<HttpResponder> responder) {
    const std::string_view path = request->path;
    const PageAsset* asset = Find(path == "/" ? "index.html" : path.substr(kPrefix.size()));
    responder->Send(asset == nullptr ? ErrorResponse(404, "there is no " + request->path + " here")
                                     : Answer(*asset, request->Header("If-None-Match")));
  };
  router->Add("GET", "/", handler).Add("GET", std::string(kPrefix) + "*", handler);
}

}  // namespace fulger
