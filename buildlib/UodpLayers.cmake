# SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause)
# uodp_layers(VARIABLE FILE): the layers that FILE (a layers.txt) names, lowest first.
function(uodp_layers variable file)
	set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${file})
	file(STRINGS ${file} layers REGEX "^[a-z]")
	set(${variable} ${layers} PARENT_SCOPE)
endfunction()
