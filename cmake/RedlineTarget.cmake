# Warnings for our own targets. Every one is an error with the compiler that CI uses; what another one warns about
# must not keep a user from building.
set(REDLINE_WARNINGS -Wall -Wextra -Wshadow -Wconversion)
if(CMAKE_CXX_COMPILER_ID STREQUAL GNU AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
  if(NOT REDLINE_SANITIZE)  # instrumented code raises false alarms about uninitialised values
    set(REDLINE_WERROR_DEFAULT ON)
  endif()
  list(APPEND REDLINE_WARNINGS -Wno-restrict)  # false alarms on std::string: gcc.gnu.org/PR105651
endif()
option(REDLINE_WERROR "Warnings are errors" ${REDLINE_WERROR_DEFAULT})
if(REDLINE_WERROR)
  list(APPEND REDLINE_WARNINGS -Werror)
endif()

# redline_room(NAME DEPENDS...): a static library of every source in this folder, but for kernels/cuda, which has
# targets of its own.
function(redline_room name)
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*.cpp)
  list(FILTER sources EXCLUDE REGEX "/kernels/cuda/")
  add_library(redline_${name} STATIC ${sources})
  add_library(redline::${name} ALIAS redline_${name})
  set_target_properties(redline_${name} PROPERTIES EXPORT_NAME ${name})
  target_include_directories(redline_${name} PUBLIC
    $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}> $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}/redline>)
  target_compile_options(redline_${name} PRIVATE ${REDLINE_WARNINGS})
  target_compile_features(redline_${name} PUBLIC cxx_std_20)
  target_link_libraries(redline_${name} PUBLIC ${ARGN})
  set_property(GLOBAL APPEND PROPERTY REDLINE_ROOMS ${name})
endfunction()
