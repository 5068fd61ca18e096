// What the C++ programs here ask of results and errors alike.
#pragma once

#include <cstdlib>
#include <cstring>
#include <taille/taille.hpp>
#include <vector>

inline bool same(const std::vector<taille::Tensor>& a, const std::vector<taille::Tensor>& b) {
  for (size_t i = 0; i < a.size() && i < b.size(); ++i)
    if (a[i].dims() != b[i].dims() || std::memcmp(a[i].view().c().data, b[i].view().c().data, a[i].bytes()) != 0)
      return false;
  return a.size() == b.size();
}

// How a call ended; an error without a text ends the program.
template <class F>
taille_status status_of(F&& call) {
  try {
    call();
  } catch (const taille::Error& error) {
    if (std::strlen(error.what()) == 0) std::abort();
    return error.status();
  }
  return TAILLE_OK;
}
