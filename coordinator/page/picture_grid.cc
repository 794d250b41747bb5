#include "coordinator/page/picture_grid.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <memory>
#include <string_view>
#include <utility>

#include "coordinator/api/openai_answer.h"
#include "coordinator/frontend/field_error.h"
#include "model/picture/grid.h"

namespace fulger {
namespace {

// The value of `name` in a query of the form a=1&b=2.
absl::StatusOr<int> IntField(std::string_view query, std::string_view name) {
  while (!query.empty()) {
    const size_t end = std::min(query.find('&'), query.size());
    const std::string_view field = query.substr(0, end);
    query.remove_prefix(std::min(end + 1, query.size()));
    const size_t equals = field.find('=');
    if (equals == std::string_view::npos || field.substr(0, equals) != name) continue;
    const std::string_view text = field.substr(equals + 1);
    int value = 0;
    const auto [rest, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || rest != text.data() + text.size()) {
      return FieldError(name, "expected a number of pixels, found \"{}\"", text);
    }
    return value;
  }
  return FieldError(name, "expected ?width=W&height=H in pixels");
}

absl::StatusOr<std::string> Answer(const HttpRequest& request, const PictureGridOptions& options) {
  if (options.keys != nullptr) {
    RETURN_IF_ERROR(options.keys->Check(request.Header("Authorization")).status());
  }
  if (!options.processor) return FailedPrecondition("this model sees no pictures");
  ASSIGN_OR_RETURN(const int width, IntField(request.query, "width"));
  ASSIGN_OR_RETURN(const int height, IntField(request.query, "height"));
  return PictureGridJson(*options.processor, {.height = height, .width = width});
}

}  // namespace

absl::StatusOr<std::string> PictureGridJson(const ImageProcessorConfig& processor, ImageSize size) {
  ASSIGN_OR_RETURN(const ImageGrid grid, SelectGrid(size, processor));
  const int thumbnail = grid.patches_per_side * grid.patches_per_side;
  return fmt::format(
      R"({{"width":{},"height":{},"tile_size":{},"patch_size":{},"rows":{},"cols":{},"tiles":{},)"
      R"("canvas":{{"width":{},"height":{}}},"placed":{{"left":{},"top":{},"width":{},"height":{}}},)"
      R"("kept":{{"left":{},"top":{},"cols":{},"rows":{}}},)"
      R"("tokens":{{"thumbnail":{},"tiles":{},"newlines":{},"total":{}}}}})",
      size.width, size.height, processor.tile_size, processor.patch_size, grid.rows, grid.cols,
      grid.tile_count(), grid.canvas.width, grid.canvas.height, grid.fit.left, grid.fit.top,
      grid.fit.resized.width, grid.fit.resized.height, grid.patch_left, grid.patch_top, grid.patch_cols,
      grid.patch_rows, thumbnail, grid.patch_rows * grid.patch_cols, grid.patch_rows, grid.token_count());
}

void RegisterPictureGrid(Router* router, PictureGridOptions options) {
  auto shared = std::make_shared<const PictureGridOptions>(std::move(options));
  router->Add("GET", "/v1/picture_grid",
              [shared](std::shared_ptr<const HttpRequest> request, std::shared_ptr<HttpResponder> responder) {
                auto json = Answer(*request, *shared);
                HttpResponse response;
                if (json.ok()) {
                  response.body = *std::move(json);
                  // A function of the checkpoint: the answer stays true while this server runs.
                  response.headers = {{"Cache-Control", "private, max-age=60"}};
                } else {
                  response = ErrorOf(json.status());
                }
                responder->Send(std::move(response));
              });
}

}  // namespace fulger
