// Included before everything else in builds with ThreadSanitizer (FulgerOptions.cmake).
//
// protobuf's map fields have two more members where __SANITIZE_THREAD__ is defined, which the installed
// library knows nothing of: its code would look for the others in the wrong places. Here the class gets the
// library's form; the standard library, which wants the macro, has it.
#pragma once

#ifdef __SANITIZE_THREAD__
#include <memory>

#undef __SANITIZE_THREAD__
#include <google/protobuf/map_field.h>
#define __SANITIZE_THREAD__ 1
#endif
