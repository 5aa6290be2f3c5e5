# A guest of 512 bytes for KVM: in 32-bit protected mode it adds one to a byte of every page of its
# RAM, round after round, and checks before each addition that the byte holds what the round before
# left there. After each round it writes one line to the serial port:
#   R rrrrrrrr wwwwwwww      round just finished, wrong bytes seen so far; both in hexadecimal
# Its own code, stack and counters lie below 1 MiB; it works on 2 MiB up to `memory_end`, which the
# rig writes into the image (offset 4, little-endian, bytes).

        .intel_syntax noprefix
        .code16
        .globl _start
_start: jmp     real
        .org    4
memory_end:
        .long   64 << 20

real:   cli
        xor     ax, ax
        mov     ds, ax
        in      al, 0x92                # the A20 gate
        or      al, 2
        out     0x92, al
        lgdt    [gdt_pointer]
        mov     eax, cr0
        or      al, 1
        mov     cr0, eax
        .byte   0xea                    # far jump: loads the 32-bit code segment
        .word   protected
        .word   8

        .code32
protected:
        mov     ax, 16
        mov     ds, ax
        mov     es, ax
        mov     ss, ax
        mov     esp, 0x7000
        mov     edi, 0x200000           # the firmware has been here: begin with zeros
clear:  mov     byte ptr [edi + 8], 0
        add     edi, 4096
        cmp     edi, [memory_end]
        jb      clear
        xor     ebx, ebx                # wrong bytes so far
        xor     ecx, ecx                # rounds done
round:  mov     edi, 0x200000
page:   mov     al, [edi + 8]
        cmp     al, cl                  # the low byte of the round number
        je      right
        inc     ebx
right:  lea     eax, [ecx + 1]
        mov     [edi + 8], al
        add     edi, 4096
        cmp     edi, [memory_end]
        jb      page
        inc     ecx
        mov     al, 'R'
        call    put
        mov     ebp, ecx
        call    put_number
        mov     ebp, ebx
        call    put_number
        mov     al, '\n'
        call    put
        jmp     round

# Writes a space and ebp as eight hexadecimal digits.
put_number:
        mov     al, ' '
        call    put
        mov     esi, 8
digit:  rol     ebp, 4
        mov     eax, ebp
        and     al, 15
        cmp     al, 10
        jb      decimal
        add     al, 'a' - '0' - 10
decimal:
        add     al, '0'
        call    put
        dec     esi
        jnz     digit
        ret

# Writes al to the first serial port, waiting until it takes a byte.
put:    mov     ah, al
        mov     dx, 0x3fd
busy:   in      al, dx
        test    al, 0x20
        jz      busy
        mov     al, ah
        mov     dx, 0x3f8
        out     dx, al
        ret

        .align  8
gdt:    .quad   0
        .quad   0x00cf9a000000ffff      # code, flat
        .quad   0x00cf92000000ffff      # data, flat
gdt_pointer:
        .word   gdt_pointer - gdt - 1
        .long   gdt
        .org    510
        .word   0xaa55
