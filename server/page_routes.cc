#include "server/page_routes.h"

#include <openssl/sha.h>

#include <array>
#include <string>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "httplib.h"

extern "C" {
extern const unsigned char dla_page_index[];
extern const unsigned char dla_page_index_end[];
extern const unsigned char dla_page_style[];
extern const unsigned char dla_page_style_end[];
extern const unsigned char dla_page_icon[];
extern const unsigned char dla_page_icon_end[];
extern const unsigned char dla_page_main[];
extern const unsigned char dla_page_main_end[];
extern const unsigned char dla_page_camera[];
extern const unsigned char dla_page_camera_end[];
extern const unsigned char dla_page_live[];
extern const unsigned char dla_page_live_end[];
extern const unsigned char dla_page_metrics[];
extern const unsigned char dla_page_metrics_end[];
extern const unsigned char dla_page_photos[];
extern const unsigned char dla_page_photos_end[];
extern const unsigned char dla_page_server[];
extern const unsigned char dla_page_server_end[];
}

namespace dla::server {
namespace {

constexpr char kHtml[] = "text/html; charset=utf-8";
constexpr char kScript[] = "text/javascript; charset=utf-8";

struct PageFile {
  const char* pattern;  // of the path
  const char* type;
  const unsigned char* begin;
  const unsigned char* end;
};

constexpr PageFile kFiles[] = {
    {"/", kHtml, dla_page_index, dla_page_index_end},
    {R"(/page/page\.css)", "text/css; charset=utf-8", dla_page_style, dla_page_style_end},
    {R"(/page/icon\.svg)", "image/svg+xml", dla_page_icon, dla_page_icon_end},
    {R"(/page/page\.js)", kScript, dla_page_main, dla_page_main_end},
    {R"(/page/camera\.js)", kScript, dla_page_camera, dla_page_camera_end},
    {R"(/page/live\.js)", kScript, dla_page_live, dla_page_live_end},
    {R"(/page/metrics\.js)", kScript, dla_page_metrics, dla_page_metrics_end},
    {R"(/page/photos\.js)", kScript, dla_page_photos, dla_page_photos_end},
    {R"(/page/server\.js)", kScript, dla_page_server, dla_page_server_end},
};

// blob: and data: are the photos that the visitor chose, and pictures from the style.
constexpr char kContentSecurityPolicy[] =
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; media-src 'self' blob:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'";

std::string TagOf(absl::string_view bytes) {
  std::array<unsigned char, SHA256_DIGEST_LENGTH> hash;
  SHA256(reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size(), hash.data());
  const absl::string_view start(reinterpret_cast<const char*>(hash.data()), 12);
  return absl::StrCat("\"", absl::BytesToHexString(start), "\"");
}

}  // namespace

void AddPageRoutes(httplib::Server& server) {
  for (const PageFile& file : kFiles) {
    const absl::string_view bytes(reinterpret_cast<const char*>(file.begin),
                                  static_cast<size_t>(file.end - file.begin));
    server.Get(file.pattern, [bytes, type = file.type, tag = TagOf(bytes)](
                                 const httplib::Request& request, httplib::Response& response) {
      response.set_header("Content-Security-Policy", kContentSecurityPolicy);
      response.set_header("X-Content-Type-Options", "nosniff");
      response.set_header("Referrer-Policy", "no-referrer");
      response.set_header("Permissions-Policy", "camera=(self), microphone=(), geolocation=()");
      response.set_header("Cross-Origin-Resource-Policy", "same-origin");
      response.set_header("Cache-Control", "no-cache");
      response.set_header("Vary", "Accept-Encoding");
      response.set_header("ETag", tag);
      // A list may hold it, and a proxy may have made it weak.
      if (absl::StrContains(request.get_header_value("If-None-Match"), tag)) {
        response.status = 304;
      } else {
        response.set_content(bytes.data(), bytes.size(), type);
      }
    });
  }
}

}  // namespace dla::server
