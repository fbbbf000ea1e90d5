// How a convolution's output is cut into tiles.
#pragma once

#include <vector>

#include "model/cpu/conv_kernel.h"
#include "model/cpu/planes.h"

namespace dla::cpu {

// Units, which follow each other in rows: pixels, or what the kernel computes as one.
struct TileGrid {
  int rows;
  int units;         // of a row
  int source_pitch;  // pixels of the input from the row's first unit to the next row's
  int source_step;   // from unit to unit
  int target_pitch;  // pixels of the output
  int target_step;
};

// Each of one row, row after row.
std::vector<PixelTile> TilesOfRows(const TileGrid& grid, int tile_units);

// The same in columns: first all that are the first of their row, and so on. Down a column of
// tiles, the rows that one reads are still in the first cache when the next does.
std::vector<PixelTile> TilesInColumns(const TileGrid& grid, int tile_units);

// Tiles that go through the plane as if it had no rows: the units between them are computed, too,
// and are PixelTile::border. Empty unless input and output have rows of the same length.
std::vector<PixelTile> TilesAcrossRows(const TileGrid& grid, int tile_units);

// Across rows or of one row each, whichever takes fewer.
std::vector<PixelTile> FewestTiles(const TileGrid& grid, int tile_units);

// Tiles of blocks of 2x2 pixels, see KernelSet::MakeWinograd.
std::vector<PixelTile> BlockTiles(const PlaneGeometry& geometry, int tile_blocks);

}  // namespace dla::cpu
