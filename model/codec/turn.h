// From the way a photo is stored to the way it is looked at.
#pragma once

namespace dla::codec {

// How to turn a photo upright: transpose it first, flip it then.
struct Turn {
  // Orientation 1..8 as EXIF 2.32 numbers them.
  explicit Turn(int orientation)
      : transpose(orientation >= 5),
        flip_x(orientation == 2 || orientation == 3 || orientation == 6 || orientation == 7),
        flip_y(orientation == 3 || orientation == 4 || orientation == 7 || orientation == 8) {}
  const bool transpose;
  const bool flip_x;  // left for right
  const bool flip_y;
};

}  // namespace dla::codec
