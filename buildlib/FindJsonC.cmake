# SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause)
# json-c, for --json: the target JsonC::json-c
find_path(JSON_C_INCLUDE_DIR json.h PATH_SUFFIXES json-c)
find_library(JSON_C_LIBRARY json-c)
mark_as_advanced(JSON_C_INCLUDE_DIR JSON_C_LIBRARY)

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(JsonC
	REQUIRED_VARS JSON_C_LIBRARY JSON_C_INCLUDE_DIR
	REASON_FAILURE_MESSAGE "install libjson-c-dev")

if(JsonC_FOUND AND NOT TARGET JsonC::json-c)
	add_library(JsonC::json-c UNKNOWN IMPORTED)
	set_target_properties(JsonC::json-c PROPERTIES
		IMPORTED_LOCATION ${JSON_C_LIBRARY}
		INTERFACE_INCLUDE_DIRECTORIES ${JSON_C_INCLUDE_DIR})
endif()
