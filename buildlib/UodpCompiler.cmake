# SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause)
# The C dialect, the warnings, and the code generation that all targets share.
set(CMAKE_C_STANDARD 11)
set(CMAKE_C_STANDARD_REQUIRED ON)
set(CMAKE_C_EXTENSIONS ON)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(THREADS_PREFER_PTHREAD_FLAG ON)
find_package(Threads REQUIRED)

add_compile_definitions(_GNU_SOURCE UODP_VERSION="${PROJECT_VERSION}")
add_compile_options(-Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes)
if(UODP_WERROR)
	add_compile_options(-Werror)
endif()

# Calls inside a library are resolved inside it: nothing may interpose them.
include(CheckCCompilerFlag)
check_c_compiler_flag(-fno-semantic-interposition UODP_HAVE_NO_SEMANTIC_INTERPOSITION)
if(UODP_HAVE_NO_SEMANTIC_INTERPOSITION)
	add_compile_options(-fno-semantic-interposition)
endif()

# A thread variable must never be allocated on first use: the service thread
# may not call malloc. Initial-exec variables are there when a thread starts.
add_compile_options(-ftls-model=initial-exec)

add_link_options(LINKER:--as-needed LINKER:-z,relro,-z,now)
