# SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause)
# libibverbs, its headers, and what a provider must know of the installed one.
#
#   Ibverbs::ibverbs       the library
#   IBVERBS_PRIVATE_ABI    n of its symbol version IBVERBS_PRIVATE_n
#   IBVERBS_RELEASE        the rdma-core release, NN of libibverbs.so.1.x.NN.y
#
# The private ABI is in no installed header; the provider declares it, and
# knows the layouts of the numbers below (providers/uodp/abi).
set(UODP_PRIVATE_ABIS 34 57 59 64 65)

find_path(IBVERBS_INCLUDE_DIR infiniband/verbs.h)
find_library(IBVERBS_LIBRARY ibverbs)
mark_as_advanced(IBVERBS_INCLUDE_DIR IBVERBS_LIBRARY)

if(IBVERBS_LIBRARY)
	get_filename_component(_ibverbs_file ${IBVERBS_LIBRARY} REALPATH)
	file(STRINGS ${_ibverbs_file} _ibverbs_versions REGEX "^IBVERBS_PRIVATE_[0-9]+$")
	list(REMOVE_DUPLICATES _ibverbs_versions)
	list(LENGTH _ibverbs_versions _ibverbs_count)
	if(NOT _ibverbs_count EQUAL 1)
		message(FATAL_ERROR
			"${_ibverbs_file} has no (or more than one) symbol version IBVERBS_PRIVATE_n; "
			"a shared libibverbs of rdma-core is needed")
	endif()
	string(REPLACE "IBVERBS_PRIVATE_" "" IBVERBS_PRIVATE_ABI ${_ibverbs_versions})
	if(NOT IBVERBS_PRIVATE_ABI IN_LIST UODP_PRIVATE_ABIS)
		list(JOIN UODP_PRIVATE_ABIS " " _ibverbs_known)
		message(FATAL_ERROR
			"${_ibverbs_file} has the private ABI ${IBVERBS_PRIVATE_ABI}; "
			"this version of uodp knows: ${_ibverbs_known}")
	endif()
	if(_ibverbs_file MATCHES "\\.so\\.1\\.[0-9]+\\.([0-9]+)\\.[0-9]+$")
		set(IBVERBS_RELEASE ${CMAKE_MATCH_1})
	else()
		message(FATAL_ERROR
			"cannot read the release of rdma-core from the name ${_ibverbs_file} "
			"(libibverbs.so.1.x.NN.y is expected)")
	endif()
endif()

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(Ibverbs
	REQUIRED_VARS IBVERBS_LIBRARY IBVERBS_INCLUDE_DIR
	VERSION_VAR IBVERBS_RELEASE
	REASON_FAILURE_MESSAGE "install libibverbs-dev (or rdma-core-devel)")

if(Ibverbs_FOUND AND NOT TARGET Ibverbs::ibverbs)
	message(STATUS "libibverbs: release ${IBVERBS_RELEASE}, private ABI ${IBVERBS_PRIVATE_ABI}")
	add_library(Ibverbs::ibverbs UNKNOWN IMPORTED)
	set_target_properties(Ibverbs::ibverbs PROPERTIES
		IMPORTED_LOCATION ${IBVERBS_LIBRARY}
		INTERFACE_INCLUDE_DIRECTORIES ${IBVERBS_INCLUDE_DIR})
endif()
