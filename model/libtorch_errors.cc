#include "model/libtorch_errors.h"

#include <c10/util/Exception.h>

#include <exception>
#include <new>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace dla {

absl::Status StatusOfException(absl::string_view doing) {
  std::string text;
  try {
    throw;
  } catch (const c10::OutOfMemoryError& error) {  // of a GPU
    return absl::ResourceExhaustedError(absl::StrCat(
        "out of memory while ", doing, ": ",
        *absl::StrSplit(absl::string_view(error.what_without_backtrace()), '\n').begin()));
  } catch (const c10::Error& error) {
    text = error.what_without_backtrace();
  } catch (const std::bad_alloc&) {
    return absl::ResourceExhaustedError(absl::StrCat("out of memory while ", doing));
  } catch (const std::exception& error) {
    text = error.what();
  }
  const absl::string_view line = *absl::StrSplit(text, '\n').begin();
  if (absl::StrContains(line, "can't allocate memory")) {
    return absl::ResourceExhaustedError(absl::StrCat("out of memory while ", doing, ": ", line));
  }
  return absl::InternalError(absl::StrCat("LibTorch failed while ", doing, ": ", line));
}

}  // namespace dla
