# fulger_library(NAME n SRCS ... HDRS ... DEPS ...)      a static library fulger_<n>, alias fulger::<n>
# fulger_binary(NAME n SRCS ... DEPS ...)                an executable in build/bin
# fulger_test(NAME n SRCS ... DEPS ... [LABELS ...] [TIMEOUT seconds])   a GoogleTest program run by ctest
# fulger_mpi_test(NAME n SRCS ... DEPS ... NP 2 4 [TIMEOUT seconds])     the same under mpirun, ctest n_np2, n_np4
#
# HDRS are compiled alone (target check_headers), so every header carries its own includes.
set_property(GLOBAL PROPERTY FULGER_HEADERS "")

function(fulger_library)
  cmake_parse_arguments(A "" "NAME" "SRCS;HDRS;DEPS" ${ARGN})
  set(target fulger_${A_NAME})
  if(A_SRCS)
    add_library(${target} STATIC ${A_SRCS})
    target_link_libraries(${target} PUBLIC fulger_options ${A_DEPS})
  else()
    add_library(${target} INTERFACE)
    target_link_libraries(${target} INTERFACE fulger_options ${A_DEPS})
  endif()
  add_library(fulger::${A_NAME} ALIAS ${target})
  foreach(h ${A_HDRS})
    set_property(GLOBAL APPEND PROPERTY FULGER_HEADERS "${target}|${CMAKE_CURRENT_SOURCE_DIR}/${h}")
  endforeach()
endfunction()

function(fulger_binary)
  cmake_parse_arguments(A "" "NAME" "SRCS;DEPS" ${ARGN})
  add_executable(${A_NAME} ${A_SRCS})
  target_link_libraries(${A_NAME} PRIVATE fulger_options ${A_DEPS})
endfunction()

# What every test program has in common; reads the caller's A_* arguments, hence a macro.
macro(_fulger_test_program)
  if(NOT A_TIMEOUT)
    set(A_TIMEOUT 60)
  endif()
  if(FULGER_SANITIZE)  # instrumented code takes several times as long
    math(EXPR A_TIMEOUT "4 * ${A_TIMEOUT}")
  endif()
  add_executable(${A_NAME} ${A_SRCS})
  target_link_libraries(${A_NAME} PRIVATE fulger_options ${A_DEPS} fulger::test_support GTest::gmock GTest::gtest_main)
  set_target_properties(${A_NAME} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
  # Half of a build's time is tests; what they test is compiled with full optimisation in its library.
  target_compile_options(${A_NAME} PRIVATE -O1)
endmacro()

function(fulger_test)
  cmake_parse_arguments(A "" "NAME;TIMEOUT" "SRCS;DEPS;LABELS;ENV" ${ARGN})
  _fulger_test_program()
  add_test(NAME ${A_NAME} COMMAND ${A_NAME} WORKING_DIRECTORY ${CMAKE_SOURCE_DIR})
  # A program that can test nothing here says why and exits with 77.
  set_tests_properties(${A_NAME} PROPERTIES TIMEOUT ${A_TIMEOUT} LABELS "cpu;${A_LABELS}" ENVIRONMENT "${A_ENV}"
    SKIP_RETURN_CODE 77)
endfunction()

# Bound to no core and yielding: several such tests may share a small machine. mpirun ignores SIGTERM while a rank
# hangs, hence timeout -k. TSan cannot see into Open MPI, and LSan reports what it leaks.
function(fulger_mpi_test)
  cmake_parse_arguments(A "" "NAME;TIMEOUT" "SRCS;DEPS;LABELS;NP" ${ARGN})
  _fulger_test_program()
  math(EXPR kill_after "${A_TIMEOUT} + 10")
  foreach(np ${A_NP})
    add_test(NAME ${A_NAME}_np${np} WORKING_DIRECTORY ${CMAKE_SOURCE_DIR}
      COMMAND timeout -k 3 ${A_TIMEOUT} ${MPIEXEC_EXECUTABLE} --allow-run-as-root --oversubscribe --bind-to none
              -np ${np} $<TARGET_FILE:${A_NAME}>)
    set_tests_properties(${A_NAME}_np${np} PROPERTIES TIMEOUT ${kill_after} LABELS "cpu;mpi;${A_LABELS}" PROCESSORS 2
      ENVIRONMENT "OMPI_ALLOW_RUN_AS_ROOT=1;OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1;OMPI_MCA_mpi_yield_when_idle=1;\
OMP_NUM_THREADS=1;TSAN_OPTIONS=ignore_noninstrumented_modules=1;ASAN_OPTIONS=detect_leaks=0")
  endforeach()
endfunction()

# One object library per owning target, so that each header is compiled with that target's dependencies.
function(fulger_check_headers)
  get_property(entries GLOBAL PROPERTY FULGER_HEADERS)
  foreach(entry ${entries})
    string(REPLACE "|" ";" parts "${entry}")
    list(GET parts 0 target)
    list(GET parts 1 header)
    file(RELATIVE_PATH rel ${CMAKE_SOURCE_DIR} ${header})
    # A source that includes its own header first has shown already that the header stands alone.
    string(REGEX REPLACE "\\.h$" ".cc" source ${header})
    if(EXISTS ${source})
      file(STRINGS ${source} first_include REGEX "^#include" LIMIT_COUNT 1)
      if(first_include STREQUAL "#include \"${rel}\"")
        continue()
      endif()
    endif()
    string(MAKE_C_IDENTIFIER "${rel}" id)
    set(src ${CMAKE_BINARY_DIR}/check_headers/${id}.cc)
    if(NOT EXISTS ${src})
      file(WRITE ${src} "#include \"${rel}\"\n#include \"${rel}\"  // twice: guards\n")
    endif()
    list(APPEND srcs_${target} ${src})
    list(APPEND targets ${target})
  endforeach()
  list(REMOVE_DUPLICATES targets)
  add_custom_target(check_headers)
  foreach(target ${targets})
    add_library(check_headers_${target} OBJECT EXCLUDE_FROM_ALL ${srcs_${target}})
    target_link_libraries(check_headers_${target} PRIVATE fulger_options ${target})
    target_compile_options(check_headers_${target} PRIVATE -O0)
    add_dependencies(check_headers check_headers_${target})
  endforeach()
endfunction()
