#include "textflag.h"

// The constants of doc.go, for the first and the second word of 128 bits.
// On by 512 bits: x^575, x^511.
DATA by512<>+0(SB)/8, $0x6ae3efbb9dd441f3
DATA by512<>+8(SB)/8, $0x081f6054a7842df4
GLOBL by512<>(SB), RODATA|NOPTR, $16

// On by 128 bits: x^191, x^127.
DATA by128<>+0(SB)/8, $0xe05dd497ca393ae4
DATA by128<>+8(SB)/8, $0xdabe95afc7875f40
GLOBL by128<>(SB), RODATA|NOPTR, $16

// ON moves the 128 bits in acc on by the distance whose constants are in k
// and adds those in next. It uses tmp.
#define ON(acc, tmp, k, next) \
	MOVOA     acc, tmp;      \
	PCLMULQDQ $0x00, k, acc; \
	PCLMULQDQ $0x11, k, tmp; \
	PXOR      next, acc;     \
	PXOR      tmp, acc

// func fold(rest *[16]byte, register uint64, p []byte)
TEXT ·fold(SB), NOSPLIT, $0-40
	MOVQ  register+8(FP), X4
	MOVQ  p_base+16(FP), SI
	MOVQ  p_len+24(FP), CX
	MOVOU by512<>(SB), X12
	MOVOU 0(SI), X0
	MOVOU 16(SI), X1
	MOVOU 32(SI), X2
	MOVOU 48(SI), X3
	PXOR  X4, X0
	JMP   more

loop:
	MOVOU 0(SI), X8
	MOVOU 16(SI), X9
	MOVOU 32(SI), X10
	MOVOU 48(SI), X11
	ON(X0, X4, X12, X8)
	ON(X1, X5, X12, X9)
	ON(X2, X6, X12, X10)
	ON(X3, X7, X12, X11)

more:
	ADDQ $64, SI
	SUBQ $64, CX
	JA   loop

	MOVOU by128<>(SB), X12
	ON(X0, X4, X12, X1)
	ON(X0, X4, X12, X2)
	ON(X0, X4, X12, X3)
	MOVQ  rest+0(FP), DI
	MOVOU X0, 0(DI)
	RET
