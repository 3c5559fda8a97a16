// The order of a lattice's vertices in memory, and their neighbours. Vertices are numbered in the
// order in which they were found.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <numeric>
#include <utility>
#include <vector>

#include "key_table.h"
#include "paths.h"

namespace caffe_port::crf {

// By number.
using Places = std::vector<std::int32_t>;

inline Places as_found(std::size_t count) {
  Places places(count);
  std::iota(places.begin(), places.end(), 0);
  return places;
}

// The place of each vertex when they are stored in lines; begins gets the first place of each line.
template <class Packing>
Places by_line(const KeyTable<typename Packing::Key>& table, std::vector<std::size_t>& begins) {
  const std::size_t count = table.size();
  Places places(count);
  std::int32_t least = std::numeric_limits<std::int32_t>::max(), most = -least;
  for (std::size_t i = 0; i < count; ++i) {
    places[i] = Packing::line(table.key(i));
    least = std::min(least, places[i]);
    most = std::max(most, places[i]);
  }
  begins.assign(most - least + 2, 0);
  for (const std::int32_t line : places) ++begins[line - least + 1];
  for (std::size_t line = 1; line < begins.size(); ++line) begins[line] += begins[line - 1];
  std::vector<std::size_t> next = begins;
  for (std::int32_t& place : places) place = static_cast<std::int32_t>(next[place - least]++);
  return places;
}

// Calls found(i, j) for each vertex number i that has a neighbour, number j, one step along the axis.
template <class Packing, class Found>
void for_neighbours(int axis, const KeyTable<typename Packing::Key>& table, Found found) {
  const auto step = Packing::step(axis);
  constexpr std::size_t kAhead = 16;  // keys looked up in advance
  for (std::size_t i = 0; i < table.size(); ++i) {
    if (i + kAhead < table.size()) table.fetch(table.key(i + kAhead) + step);
    const std::int32_t j = table.find(table.key(i) + step);
    if (j >= 0) found(i, j);
  }
}

template <class Packing>
std::vector<Neighbours> neighbours_along(int axis, const KeyTable<typename Packing::Key>& table,
                                         const Places& places,
                                         const std::vector<std::size_t>& begins) {
  std::vector<std::int32_t> inside(table.size());  // place in its line, by place
  for (std::size_t line = 0; line + 1 < begins.size(); ++line)
    std::iota(inside.begin() + begins[line], inside.begin() + begins[line + 1], 0);
  std::vector<Neighbours> result(table.size(), Neighbours{-1, -1});
  for_neighbours<Packing>(axis, table, [&](std::size_t i, std::size_t j) {
    if (axis == Packing::kDimension) std::swap(i, j);  // where a step goes back
    result[places[i]].after = inside[places[j]];
    result[places[j]].before = inside[places[i]];
  });
  return result;
}

template <class Packing>
std::vector<std::int32_t> chains_along(int axis, const KeyTable<typename Packing::Key>& table,
                                       const Places& places) {
  std::vector<std::int32_t> next(table.size(), -1);
  std::vector<char> follows(table.size(), 0);
  for_neighbours<Packing>(axis, table, [&](std::size_t i, std::size_t j) {
    next[places[i]] = places[j];
    follows[places[j]] = 1;
  });
  std::vector<std::int32_t> order;
  order.reserve(next.size());
  for (std::size_t row = 0; row < next.size(); ++row) {
    if (follows[row] || next[row] < 0) continue;
    order.push_back(~static_cast<std::int32_t>(row));
    for (std::int32_t at = next[row]; at >= 0; at = next[at]) order.push_back(at);
  }
  return order;
}

}  // namespace caffe_port::crf
