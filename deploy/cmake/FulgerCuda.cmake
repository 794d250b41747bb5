# CUDA, where an nvcc answers. FULGER_CUDA: AUTO (on if nvcc compiles a file for FULGER_CUDA_ARCHITECTURES, else off
# with one line), ON (an error if it does not), OFF, or SKIP: off until the next `make test` (`make demo` sets it: the
# demo runs on CPU ranks and should not wait for nvcc). The result is FULGER_HAVE_CUDA.
#
# Nothing links libcuda (it exists only where a driver does) or cuBLASLt and NCCL (they are loaded at run time): a
# program built here starts on any machine.
set(FULGER_CUDA AUTO CACHE STRING "AUTO | ON | OFF | SKIP")
set(FULGER_CUDA_ARCHITECTURES 90a-real CACHE STRING "GPU architectures of the kernels, as CMake writes them")
set(FULGER_HAVE_CUDA OFF)

if(FULGER_CUDA MATCHES "^(OFF|SKIP)$")
  return()
endif()
if(FULGER_SANITIZE)
  message(NOTICE "CUDA: off, sanitizers instrument host code only")
  return()
endif()
set(CMAKE_CUDA_ARCHITECTURES ${FULGER_CUDA_ARCHITECTURES})
include(CheckLanguage)
check_language(CUDA)  # compiles with nvcc in a project of its own
if(NOT CMAKE_CUDA_COMPILER)
  if(FULGER_CUDA STREQUAL "ON")
    message(FATAL_ERROR "FULGER_CUDA=ON: no nvcc that compiles; put one on PATH or set CMAKE_CUDA_COMPILER")
  endif()
  message(NOTICE "CUDA: off, no nvcc that compiles was found")
  return()
endif()

enable_language(CUDA)
# CMake 3.25 does not know nvcc's C++20.
if(CMAKE_VERSION VERSION_LESS 3.25.2)
  set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION "-std=c++20")
  set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION "-std=c++20")
endif()
set(CMAKE_CUDA_STANDARD 20)
set(CMAKE_CUDA_STANDARD_REQUIRED ON)
set(CMAKE_CUDA_RUNTIME_LIBRARY Static)
set(CMAKE_CUDA_FLAGS_RELEASE "-O3 -DNDEBUG")
find_package(CUDAToolkit REQUIRED)
if(FULGER_CCACHE AND NOT CMAKE_CUDA_COMPILER_LAUNCHER)
  set(CMAKE_CUDA_COMPILER_LAUNCHER ${FULGER_CCACHE})
endif()
set(FULGER_HAVE_CUDA ON)
message(NOTICE "CUDA: nvcc ${CMAKE_CUDA_COMPILER_VERSION}, kernels for ${CMAKE_CUDA_ARCHITECTURES}")
