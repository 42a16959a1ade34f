# SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause)
# CUnit, for the unit tests: the target CUnit::cunit
find_path(CUNIT_INCLUDE_DIR CUnit/Basic.h )
find_library(CUNIT_LIBRARY cunit)
mark_as_advanced(CUNIT_INCLUDE_DIR CUNIT_LIBRARY)

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(CUnit
	REQUIRED_VARS CUNIT_LIBRARY CUNIT_INCLUDE_DIR
	REASON_FAILURE_MESSAGE "install libcunit1-dev")

if(CUnit_FOUND AND NOT TARGET CUnit::cunit)
	add_library(CUnit::cunit UNKNOWN IMPORTED)
	set_target_properties(CUnit::cunit PROPERTIES
		IMPORTED_LOCATION ${CUNIT_LIBRARY}
		INTERFACE_INCLUDE_DIRECTORIES ${CUNIT_INCLUDE_DIR})
endif()
