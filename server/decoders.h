// The real decoders, as the operator set them.
#pragma once

#include "model/preprocess.h"
#include "server/config.h"
#include "server/pipeline.h"

namespace dla::server {

LoadImageOptions LoadOptionsOf(const ServerConfig& config);

// dla::LoadImage.
DecodeFunction RealDecode(const ServerConfig& config);

// dla::ReadImageSize. More pixels than a photo may have count as that many: it is refused later.
PixelsFunction RealCountPixels(const ServerConfig& config);

}  // namespace dla::server
