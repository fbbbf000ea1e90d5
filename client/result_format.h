// How the answers of `dla-client classify` look in each format.
#pragma once

#include <string>

#include "absl/strings/string_view.h"
#include "cli/terminal.h"
#include "client/photo_result.h"

namespace dla::client {

// For people: the file's name, then one line for each class, its columns aligned.
//   photos/dog.jpg
//     1   64.2%  ############          Samoyed, Samoyede  n02111889
// Text from outside is escaped. On a terminal, long labels are cut to its width. Empty for a photo
// that failed.
std::string TableText(const PhotoResult& result, const cli::Terminal& terminal);

// One line of JSON. A photo that failed has "error" {code, message} instead of its classes:
//   {"file":"a.jpg","model":"m","model_version":"1","classes":[{"index":0,"label":"daisy",
//    "id":"","probability":0.9}],"timing_ms":{"decode":1,"queue":0.1,"inference":8.5},"batch_size":1}
std::string JsonLine(const PhotoResult& result);

constexpr absl::string_view kCsvHeader = "file,rank,index,label,id,probability\n";

// One line for each class, rank 1 first. Fields are quoted as RFC 4180 says; lines end in "\n".
// Control characters are escaped if it goes to a terminal. Empty for a photo that failed.
std::string CsvLines(const PhotoResult& result, const cli::Terminal& terminal);

// A field of a CSV file, quoted where it needs to be.
std::string CsvField(absl::string_view text);

// A bar of `columns` columns (blanks at its end included) for a share in [0, 1].
std::string ShareBar(float share, int columns, bool utf8);

}  // namespace dla::client
