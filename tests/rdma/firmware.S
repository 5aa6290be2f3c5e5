# All that a VM of the RDMA guest runs, in place of a firmware: it fills its RAM from 1 MiB to 25 MiB, each
# word from its own address, and then reads it for ever, from the last page to the first, one word of each
# page. To port 0xe9 (-debugcon) goes F when all is filled, then . for each round whose words were
# right, and X for a wrong word. It writes no memory afterwards: what it had before it moved must be there,
# byte for byte, and nothing else.

        .intel_syntax noprefix
        .set    ROM, 0xffff0000         # where these 64 KiB end at 4 GiB
        .set    BEGIN, 0x100000
        .set    END, 0x1900000
        .set    SPREAD, 0x9e3779b1

        .code16
        .globl _start
_start: cli
        data32 lgdt cs:[gdt_pointer]
        mov     eax, cr0
        or      al, 1
        mov     cr0, eax
        .byte   0x66, 0xea              # far jump: loads the 32-bit code segment
        .long   ROM + protected
        .word   8

        .code32
protected:
        mov     ax, 16
        mov     ds, ax
        mov     edi, BEGIN
fill:   imul    eax, edi, SPREAD
        mov     [edi], eax
        add     edi, 4
        cmp     edi, END
        jb      fill
        mov     al, 'F'
        out     0xe9, al
        xor     ecx, ecx                # which word of a page
round:  lea     edi, [END - 4096 + ecx]
page:   imul    eax, edi, SPREAD
        cmp     [edi], eax
        je      right
        mov     al, 'X'
        out     0xe9, al
right:  sub     edi, 4096
        cmp     edi, BEGIN
        jae     page
        mov     al, '.'
        out     0xe9, al
        add     ecx, 68
        and     ecx, 4092
        jmp     round

        .align  8
gdt:    .quad   0
        .quad   0x00cf9b000000ffff      # code, flat
        .quad   0x00cf93000000ffff      # data, flat
gdt_pointer:
        .word   gdt_pointer - gdt - 1
        .long   ROM + gdt

        .code16
        .org    0xfff0                  # where a processor begins
        jmp     _start
        .org    0x10000
