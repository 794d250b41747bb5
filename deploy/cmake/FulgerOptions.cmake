# Language level, warnings, sanitizers, linker and compiler cache: everything that holds for every target.
if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "" FORCE)
endif()
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)
# -O2: -O3 buys nothing outside kernels/cpu, which asks for it itself.
set(CMAKE_CXX_FLAGS_RELEASE "-O2 -DNDEBUG")

option(FULGER_WERROR "Warnings are errors" ON)
option(FULGER_MPI "Build the MPI transport" ON)
option(FULGER_CARRIED "Stripped programs that look for shared libraries in ../lib (make bundle)" OFF)
if(FULGER_CARRIED)
  # RPATH and not RUNPATH: it also holds for what the carried libraries need.
  set(CMAKE_BUILD_WITH_INSTALL_RPATH ON)
  set(CMAKE_INSTALL_RPATH "$ORIGIN/../lib")
  add_link_options(LINKER:--disable-new-dtags LINKER:-s)
endif()
set(FULGER_SANITIZE "" CACHE STRING "address,undefined | thread | empty")

add_library(fulger_options INTERFACE)
target_include_directories(fulger_options INTERFACE ${CMAKE_SOURCE_DIR} ${CMAKE_BINARY_DIR})
# Designated initialisers that leave members at their defaults are our style: no missing-field warning.
# GCC 12's maybe-uninitialized reports the insides of StatusOr and optional.
target_compile_options(fulger_options INTERFACE
  $<$<COMPILE_LANGUAGE:CXX>:-Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wno-sign-conversion
  -Wno-missing-field-initializers -Wno-maybe-uninitialized>)
if(FULGER_WERROR)
  target_compile_options(fulger_options INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-Werror>)
endif()
option(FULGER_FUZZ "Build libFuzzer programs (clang)" OFF)
if(FULGER_FUZZ)
  add_compile_options(-fsanitize=fuzzer-no-link)
endif()
if(FULGER_SANITIZE)
  # GCC's maybe-uninitialized analysis reports library internals once instrumented.
  add_compile_options(-fsanitize=${FULGER_SANITIZE} -fno-omit-frame-pointer -g1 -Wno-maybe-uninitialized)
  add_link_options(-fsanitize=${FULGER_SANITIZE})
  if(FULGER_SANITIZE STREQUAL thread)
    add_compile_options("$<$<COMPILE_LANGUAGE:CXX>:SHELL:-include ${CMAKE_CURRENT_LIST_DIR}/tsan_protobuf.h>")
  endif()
  if(FULGER_SANITIZE MATCHES "undefined")
    add_compile_options(-fno-sanitize-recover=undefined)
  endif()
endif()

find_program(FULGER_CCACHE ccache)
if(FULGER_CCACHE)
  foreach(lang C CXX)
    if(NOT CMAKE_${lang}_COMPILER_LAUNCHER)
      set(CMAKE_${lang}_COMPILER_LAUNCHER ${FULGER_CCACHE})
    endif()
  endforeach()
endif()
# No mold: Debian 12's version lays out some binaries so that they do not start (GNU_RELRO off its page).
