# SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause)
# UODP_SANITIZE=address|thread, for everything that is built. The programs of
# others cannot be run on such a provider, so their tests are left out.
if(UODP_SANITIZE STREQUAL "address")
	set(UODP_SANITIZE_FLAGS -fsanitize=address,undefined -fno-sanitize-recover=undefined)
elseif(UODP_SANITIZE STREQUAL "thread")
	set(UODP_SANITIZE_FLAGS -fsanitize=thread)
	# It warns of fences, which it does not follow. What ours order is atomic anyway.
	include(CheckCCompilerFlag)
	check_c_compiler_flag(-Wno-tsan UODP_HAVE_WNO_TSAN)
	if(UODP_HAVE_WNO_TSAN)
		list(APPEND UODP_SANITIZE_FLAGS -Wno-tsan)
	endif()
elseif(NOT UODP_SANITIZE STREQUAL "")
	message(FATAL_ERROR "UODP_SANITIZE is \"${UODP_SANITIZE}\"; it may be address, thread or empty")
endif()
if(UODP_SANITIZE_FLAGS)
	# Assertions are checked in these builds.
	string(REPLACE "-DNDEBUG" "" CMAKE_C_FLAGS_RELWITHDEBINFO "${CMAKE_C_FLAGS_RELWITHDEBINFO}")
	add_compile_options(${UODP_SANITIZE_FLAGS} -fno-omit-frame-pointer)
	add_link_options(${UODP_SANITIZE_FLAGS})
endif()
