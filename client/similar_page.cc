#include "client/similar_page.h"

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"
#include "cli/text.h"

namespace dla::client {
namespace {

constexpr absl::string_view kHead = R"(<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Photos similar to $title</title>
<style>
:root { --page: #f6f7f9; --card: #fff; --ink: #16181d; --soft: #5c6370; --line: #dfe2e8; --bar: #2f6fde; }
@media (prefers-color-scheme: dark) {
  :root { --page: #111318; --card: #1b1e25; --ink: #e8eaf0; --soft: #9aa1ae; --line: #2c313b; --bar: #78a6ff; }
}
* { box-sizing: border-box; }
body { margin: 0; padding: 2rem clamp(1rem, 4vw, 3rem); background: var(--page); color: var(--ink);
  font: 1rem/1.45 system-ui, -apple-system, "Segoe UI", sans-serif; }
header { display: flex; flex-wrap: wrap; gap: 1.5rem; align-items: center; margin-bottom: 2rem; }
header .photo { flex: 0 0 auto; width: 240px; border: 1px solid var(--line); border-radius: 10px; }
h1 { margin: 0 0 .4rem; font-size: 1.5rem; overflow-wrap: anywhere; }
p { margin: .15rem 0; color: var(--soft); overflow-wrap: anywhere; }
ol { list-style: none; margin: 0; padding: 0; display: grid; gap: 1rem;
  grid-template-columns: repeat(auto-fill, minmax(210px, 1fr)); }
li { background: var(--card); border: 1px solid var(--line); border-radius: 10px; overflow: hidden; }
.photo { display: flex; aspect-ratio: 4 / 3; overflow: hidden; background: var(--line); }
.photo img { width: 100%; height: 100%; object-fit: cover; }
.photo span { margin: auto; padding: 1rem; color: var(--soft); text-align: center; overflow-wrap: anywhere; }
.text { padding: .7rem .8rem .8rem; }
.line { display: flex; justify-content: space-between; font-variant-numeric: tabular-nums; }
.rank { color: var(--soft); }
.bar { height: 4px; margin: .4rem 0; border-radius: 2px; background: var(--line); }
.bar i { display: block; height: 100%; border-radius: 2px; background: var(--bar); }
.file { font-size: .85rem; color: var(--soft); overflow-wrap: anywhere; }
</style>
</head>
<body>
)";

std::string ClassText(const dla::v1::Class& c) {
  const std::string label = c.label().empty() ? absl::StrCat("class ", c.index()) : c.label();
  return HtmlText(absl::StrFormat("%s, %.0f%%", label, 100 * c.probability()));
}

// Turns files into pieces of HTML until their room is used up.
class Pictures {
 public:
  Pictures(size_t max_bytes,
           absl::FunctionRef<absl::StatusOr<std::string>(const std::string&)> read)
      : room_(max_bytes), read_(read) {}

  std::string Html(const std::string& file) {
    const auto bytes = read_(file);
    if (!bytes.ok()) return Missing(bytes.status().message());
    const absl::string_view type = MediaType(*bytes);
    if (type.empty()) return Missing("no JPEG, PNG or WebP");
    if (bytes->size() > room_) return Missing("left out, since the page would become too large");
    room_ -= bytes->size();
    return absl::StrCat("<div class=\"photo\"><img alt=\"", HtmlText(file), "\" src=\"data:", type,
                        ";base64,", absl::Base64Escape(*bytes), "\"></div>");
  }

 private:
  static std::string Missing(absl::string_view why) {
    return absl::StrCat("<div class=\"photo\"><span>", HtmlText(why), "</span></div>");
  }

  size_t room_;
  absl::FunctionRef<absl::StatusOr<std::string>(const std::string&)> read_;
};

}  // namespace

absl::Status WriteSimilarPage(
    const SimilarPage& page, size_t max_bytes,
    absl::FunctionRef<absl::StatusOr<std::string>(const std::string&)> read,
    absl::FunctionRef<absl::Status(absl::string_view)> append) {
  Pictures pictures(max_bytes, read);
  const dla::v1::ClassifyResponse& query = page.ranking->query();
  const std::vector<SimilarPhoto>& photos = page.ranking->photos();
  const std::string title = HtmlText(page.query_file == "-" ? "standard input" : page.query_file);
  std::string head = absl::StrReplaceAll(kHead, {{"$title", title}});
  absl::StrAppend(&head, "<header>\n", pictures.Html(page.query_file), "\n<div>\n<h1>", title,
                  "</h1>\n");
  if (query.classes_size() > 0) {
    absl::StrAppend(&head, "<p>", ClassText(query.classes(0)), "</p>\n");
  }
  absl::StrAppend(&head, "<p>The ", photos.size(), " nearest of ", page.compared,
                  " photos by cosine similarity of their embeddings</p>\n<p>",
                  HtmlText(query.model()), " version ", HtmlText(query.model_version()),
                  "</p>\n</div>\n</header>\n<ol>\n");
  if (absl::Status status = append(head); !status.ok()) return status;
  for (size_t i = 0; i < photos.size(); ++i) {
    const SimilarPhoto& photo = photos[i];
    std::string item = absl::StrCat("<li>\n", pictures.Html(photo.file), "\n");
    absl::StrAppendFormat(
        &item,
        "<div class=\"text\"><div class=\"line\"><strong>%.4f</strong><span "
        "class=\"rank\">%d</span>"
        "</div>\n<div class=\"bar\"><i style=\"width: %.1f%%\"></i></div>\n<div>%s</div>\n"
        "<div class=\"file\">%s</div></div>\n</li>\n",
        photo.similarity, i + 1, photo.similarity > 0 ? 100 * photo.similarity : 0.0,
        ClassText(photo.top), HtmlText(photo.file));
    if (absl::Status status = append(item); !status.ok()) return status;
  }
  return append("</ol>\n</body>\n</html>\n");
}

std::string HtmlText(absl::string_view text) {
  return absl::StrReplaceAll(
      cli::Printable(text),
      {{"&", "&amp;"}, {"<", "&lt;"}, {">", "&gt;"}, {"\"", "&quot;"}, {"'", "&#39;"}});
}

absl::string_view MediaType(absl::string_view photo) {
  if (absl::StartsWith(photo, "\xff\xd8\xff")) return "image/jpeg";
  if (absl::StartsWith(photo, "\x89PNG\r\n\x1a\n")) return "image/png";
  if (photo.size() >= 12 && absl::StartsWith(photo, "RIFF") && photo.substr(8, 4) == "WEBP") {
    return "image/webp";
  }
  return "";
}

}  // namespace dla::client
