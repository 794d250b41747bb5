# FULGER_STATIC: imported libraries are linked from their .a files where the distribution has them, and programs look for
# the remaining shared ones in ../lib beside their own folder: what `make bundle` carries to another machine.
option(FULGER_STATIC "Link third-party libraries statically where possible" OFF)

function(_fulger_prefer_static target)
  get_target_property(configurations ${target} IMPORTED_CONFIGURATIONS)
  set(suffixes "")
  if(configurations)
    list(TRANSFORM configurations PREPEND "_")
    set(suffixes ${configurations})
  endif()
  foreach(suffix "" ${suffixes})
    get_target_property(shared ${target} IMPORTED_LOCATION${suffix})
    if(shared AND shared MATCHES "\\.so")
      string(REGEX REPLACE "\\.so[.0-9]*$" ".a" archive ${shared})
      if(EXISTS ${archive})
        set_target_properties(${target} PROPERTIES IMPORTED_LOCATION${suffix} ${archive} IMPORTED_SONAME${suffix} "")
      endif()
    endif()
  endforeach()
endfunction()

if(FULGER_STATIC)
  get_property(imported DIRECTORY ${CMAKE_SOURCE_DIR} PROPERTY IMPORTED_TARGETS)
  foreach(target ${imported})
    get_target_property(type ${target} TYPE)
    if(NOT type MATCHES "INTERFACE|EXECUTABLE")
      _fulger_prefer_static(${target})
    endif()
  endforeach()
  # RPATH and not RUNPATH: it also holds for the libraries that the carried ones need.
  add_link_options("LINKER:-rpath,$ORIGIN/../lib" "LINKER:--disable-new-dtags" "LINKER:--gc-sections"
                   "LINKER:--exclude-libs,ALL" "LINKER:-s")
endif()
