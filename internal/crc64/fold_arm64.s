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
	VPMULL2 k.D2, acc.D2, tmp.Q1;      \
	VPMULL  k.D1, acc.D1, acc.Q1;      \
	VEOR    next.B16, acc.B16, acc.B16; \
	VEOR    tmp.B16, acc.B16, acc.B16

// func fold(rest *[16]byte, register uint64, p []byte)
TEXT ·fold(SB), NOSPLIT, $0-40
	MOVD   register+8(FP), R0
	MOVD   p_base+16(FP), R1
	MOVD   p_len+24(FP), R2
	MOVD   $by512<>(SB), R3
	VLD1   (R3), [V12.D2]
	MOVD   $by128<>(SB), R3
	VLD1   (R3), [V13.D2]
	VLD1.P 64(R1), [V0.B16, V1.B16, V2.B16, V3.B16]
	VEOR   V4.B16, V4.B16, V4.B16
	VMOV   R0, V4.D[0]
	VEOR   V4.B16, V0.B16, V0.B16

more:
	SUBS   $64, R2, R2
	BEQ    done
	VLD1.P 64(R1), [V8.B16, V9.B16, V10.B16, V11.B16]
	ON(V0, V4, V12, V8)
	ON(V1, V5, V12, V9)
	ON(V2, V6, V12, V10)
	ON(V3, V7, V12, V11)
	B      more

done:
	ON(V0, V4, V13, V1)
	ON(V0, V4, V13, V2)
	ON(V0, V4, V13, V3)
	MOVD rest+0(FP), R3
	VST1 [V0.B16], (R3)
	RET
