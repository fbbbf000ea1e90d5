# dla_embed_file(TARGET SYMBOL FILE) compiles FILE's bytes into TARGET. C++ sees them as
#   extern "C" const unsigned char SYMBOL[];
#   extern "C" const unsigned char SYMBOL_end[];
function(dla_embed_file target symbol file)
  get_filename_component(path "${file}" ABSOLUTE)
  set(source "${CMAKE_CURRENT_BINARY_DIR}/${symbol}.S")
  file(CONFIGURE OUTPUT "${source}" @ONLY CONTENT [[
        .section .rodata
        .global @symbol@, @symbol@_end
        .balign 64
@symbol@:
        .incbin "@path@"
@symbol@_end:
        .byte 0
        .section .note.GNU-stack, "", %progbits
]])
  set_source_files_properties("${source}" PROPERTIES OBJECT_DEPENDS "${path}")
  target_sources(${target} PRIVATE "${source}")
endfunction()
