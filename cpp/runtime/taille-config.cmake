# find_package(taille) gives taille::taille: taille.h (C99), taille.hpp (C++17) and libtaille. It lies in the Python package;
# cmake -Dtaille_DIR="$(python -c 'import taille; print(taille.get_cmake_dir())')" says where.
if(NOT TARGET taille::taille)
  get_filename_component(_taille_root "${CMAKE_CURRENT_LIST_DIR}/../../.." ABSOLUTE)
  add_library(taille::taille SHARED IMPORTED)
  set_target_properties(taille::taille PROPERTIES
    IMPORTED_LOCATION "${_taille_root}/lib/libtaille${CMAKE_SHARED_LIBRARY_SUFFIX}"
    INTERFACE_INCLUDE_DIRECTORIES "${_taille_root}/include")
  unset(_taille_root)
endif()
