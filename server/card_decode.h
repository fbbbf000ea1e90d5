// Decoding on a card, with the processor behind it.
#pragma once

#include <memory>
#include <string>

#include "model/gpu/jpeg_decoder.h"
#include "model/preprocess.h"
#include "server/pipeline.h"

namespace dla::server {

// Decodes on the card only: UNIMPLEMENTED, or what the card says, for what that does not do.
DecodeFunction DecodeOnCard(std::shared_ptr<gpu::JpegDecoder> card,
                            const LoadImageOptions& options);

// Decodes on the card what it takes on, and all else with `processor`, whose errors are the ones
// that callers see: a card that fails fails no photo. Once the card is lost, which one line of the
// log says, it is not asked again.
DecodeFunction DecodeWithFallback(std::string name, std::shared_ptr<gpu::JpegDecoder> card,
                                  const LoadImageOptions& options, DecodeFunction processor);

}  // namespace dla::server
