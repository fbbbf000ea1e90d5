#include "model/cpu/tiles.h"

#include <algorithm>

namespace dla::cpu {
namespace {

// The units from x on in row y. A row's last tile begins before the one before it ends, if need
// be, but leaves those units to it, for two threads may compute them.
PixelTile TileOfRow(const TileGrid& grid, int tile_units, int x, int y) {
  const int begin = std::min(x, std::max(grid.units - tile_units, 0));
  const unsigned all = (1U << std::min(tile_units, grid.units)) - 1;
  const unsigned done = (1U << (x - begin)) - 1;
  return {y * grid.source_pitch + begin * grid.source_step,
          y * grid.target_pitch + begin * grid.target_step, static_cast<uint16_t>(all & ~done), 0};
}

}  // namespace

std::vector<PixelTile> TilesOfRows(const TileGrid& grid, int tile_units) {
  std::vector<PixelTile> tiles;
  for (int y = 0; y < grid.rows; ++y) {
    for (int x = 0; x < grid.units; x += tile_units) {
      tiles.push_back(TileOfRow(grid, tile_units, x, y));
    }
  }
  return tiles;
}

std::vector<PixelTile> TilesInColumns(const TileGrid& grid, int tile_units) {
  std::vector<PixelTile> tiles;
  for (int x = 0; x < grid.units; x += tile_units) {
    for (int y = 0; y < grid.rows; ++y) tiles.push_back(TileOfRow(grid, tile_units, x, y));
  }
  return tiles;
}

std::vector<PixelTile> TilesAcrossRows(const TileGrid& grid, int tile_units) {
  std::vector<PixelTile> tiles;
  const int pitch = grid.target_pitch / grid.target_step;  // units
  if (grid.target_pitch % grid.target_step != 0 || pitch * grid.source_step != grid.source_pitch) {
    return tiles;
  }
  const int count = grid.rows * pitch;
  for (int begin = 0; begin < count; begin += tile_units) {
    PixelTile tile{begin * grid.source_step, begin * grid.target_step, 0, 0};
    for (int i = 0; i < tile_units && begin + i < count; ++i) {
      const bool is_border = (begin + i) % pitch >= grid.units;
      (is_border ? tile.border : tile.valid) |= 1 << i;
    }
    tiles.push_back(tile);
  }
  return tiles;
}

std::vector<PixelTile> FewestTiles(const TileGrid& grid, int tile_units) {
  std::vector<PixelTile> rows = TilesOfRows(grid, tile_units);
  std::vector<PixelTile> across = TilesAcrossRows(grid, tile_units);
  return !across.empty() && across.size() < rows.size() ? across : rows;
}

std::vector<PixelTile> BlockTiles(const PlaneGeometry& geometry, int tile_blocks) {
  std::vector<PixelTile> tiles;
  const int count = ((geometry.height + 1) / 2) * ((geometry.width + 1) / 2);
  for (int begin = 0; begin < count; begin += tile_blocks) {
    const int blocks = std::min(tile_blocks, count - begin);
    tiles.push_back({begin, begin, static_cast<uint16_t>((1U << blocks) - 1), 0});
  }
  return tiles;
}

}  // namespace dla::cpu
