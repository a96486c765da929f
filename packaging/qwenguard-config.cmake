# find_package(qwenguard): the targets qwenguard::qwenguard (shared) and qwenguard::static, and qwenguard::onnxruntime, which
# nothing links and programs take along. Finds everything relative to this file, in <prefix>/share/cmake/qwenguard, so that the
# prefix can be moved. A program installs what it needs to run with one of
#
#     install(IMPORTED_RUNTIME_ARTIFACTS qwenguard::qwenguard qwenguard::onnxruntime DESTINATION lib)   # CMake 3.21 and newer
#     install(FILES ${qwenguard_RUNTIME_LIBRARIES} DESTINATION lib)
#
# One that is linked with qwenguard::static needs ONNX Runtime beside it, which this does for a target `program`:
#
#     add_custom_command(TARGET program POST_BUILD COMMAND ${CMAKE_COMMAND} -E copy_if_different
#         $<TARGET_FILE:qwenguard::onnxruntime> $<TARGET_FILE_DIR:program>)

get_filename_component(_qwenguard_prefix "${CMAKE_CURRENT_LIST_DIR}/../../.." ABSOLUTE)
set(_qwenguard_folders "${_qwenguard_prefix}/lib" "${_qwenguard_prefix}/lib64"
    "${_qwenguard_prefix}/lib/${CMAKE_LIBRARY_ARCHITECTURE}")
if(WIN32)
  # The DLL is what runs, the import library what is linked.
  find_file(QWENGUARD_SHARED NAMES qwenguard.dll PATHS "${_qwenguard_prefix}/bin" NO_DEFAULT_PATH)
  if(MSVC)
    find_file(QWENGUARD_IMPORT NAMES qwenguard.lib PATHS "${_qwenguard_prefix}/lib" NO_DEFAULT_PATH)
  else()
    find_file(QWENGUARD_IMPORT NAMES libqwenguard.dll.a PATHS "${_qwenguard_prefix}/lib" NO_DEFAULT_PATH)
  endif()
  mark_as_advanced(QWENGUARD_IMPORT)
else()
  find_library(QWENGUARD_SHARED NAMES qwenguard PATHS ${_qwenguard_folders} NO_DEFAULT_PATH)
endif()
# The static library of Windows is for GNU's linker.
if(NOT MSVC)
  find_library(QWENGUARD_STATIC NAMES libqwenguard.a PATHS ${_qwenguard_folders} NO_DEFAULT_PATH)
endif()
mark_as_advanced(QWENGUARD_SHARED QWENGUARD_STATIC)

if(QWENGUARD_SHARED AND NOT TARGET qwenguard::qwenguard)
  add_library(qwenguard::qwenguard SHARED IMPORTED)
  get_filename_component(_qwenguard_file "${QWENGUARD_SHARED}" REALPATH)
  set_target_properties(qwenguard::qwenguard PROPERTIES
    IMPORTED_LOCATION "${_qwenguard_file}"
    INTERFACE_INCLUDE_DIRECTORIES "${_qwenguard_prefix}/include")
  if(CMAKE_SYSTEM_NAME STREQUAL "Linux")
    set_target_properties(qwenguard::qwenguard PROPERTIES IMPORTED_SONAME "libqwenguard.so.0.1")
  elseif(WIN32)
    set_target_properties(qwenguard::qwenguard PROPERTIES IMPORTED_IMPLIB "${QWENGUARD_IMPORT}")
  endif()
endif()

if(QWENGUARD_STATIC AND NOT TARGET qwenguard::static)
  add_library(qwenguard::static STATIC IMPORTED)
  set_target_properties(qwenguard::static PROPERTIES
    IMPORTED_LOCATION "${QWENGUARD_STATIC}"
    INTERFACE_INCLUDE_DIRECTORIES "${_qwenguard_prefix}/include")
  if(CMAKE_SYSTEM_NAME STREQUAL "Linux")
    set_target_properties(qwenguard::static PROPERTIES
      INTERFACE_LINK_LIBRARIES "gcc_s;util;rt;pthread;m;dl;c")
  elseif(WIN32)
    set_target_properties(qwenguard::static PROPERTIES
      INTERFACE_LINK_LIBRARIES "kernel32;ntdll;userenv;ws2_32;dbghelp")
  endif()
endif()

# ONNX Runtime is loaded at run time, from beside the library's file, to which links may lead.
get_filename_component(_qwenguard_file "${QWENGUARD_SHARED}" REALPATH)
get_filename_component(_qwenguard_folder "${_qwenguard_file}" DIRECTORY)
find_file(QWENGUARD_ONNXRUNTIME NAMES libonnxruntime.so libonnxruntime.dylib onnxruntime.dll
    PATHS "${_qwenguard_folder}" ${_qwenguard_folders} "${_qwenguard_prefix}/bin" NO_DEFAULT_PATH)
mark_as_advanced(QWENGUARD_ONNXRUNTIME)
if(QWENGUARD_ONNXRUNTIME AND NOT TARGET qwenguard::onnxruntime)
  add_library(qwenguard::onnxruntime MODULE IMPORTED)
  set_target_properties(qwenguard::onnxruntime PROPERTIES IMPORTED_LOCATION "${QWENGUARD_ONNXRUNTIME}")
endif()

# Files for install(FILES): the library, with the name that programs ask for, and ONNX Runtime.
set(qwenguard_RUNTIME_LIBRARIES)
if(QWENGUARD_SHARED)
  file(GLOB _qwenguard_names "${_qwenguard_folder}/libqwenguard.so.*" "${_qwenguard_folder}/libqwenguard.*.dylib")
  list(APPEND qwenguard_RUNTIME_LIBRARIES "${_qwenguard_file}" ${_qwenguard_names})
  list(REMOVE_DUPLICATES qwenguard_RUNTIME_LIBRARIES)
endif()
if(QWENGUARD_ONNXRUNTIME)
  list(APPEND qwenguard_RUNTIME_LIBRARIES "${QWENGUARD_ONNXRUNTIME}")
endif()

if(NOT QWENGUARD_SHARED AND NOT QWENGUARD_STATIC)
  set(qwenguard_FOUND FALSE)
  set(qwenguard_NOT_FOUND_MESSAGE "there is no libqwenguard in ${_qwenguard_folders}")
endif()
